"""`activity_tool`: an existing Temporal activity as a tool. Both sides declare it; only activities run it.

The activity is called inside of perdure's own (`perdure.call_tool`), which records the result in the conversation
as that of any tool. So its timeouts and retries are those of the tool, and not of an activity of its own.
"""

import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure.agents.approvals import Policy
from perdure.agents.context import ToolContext
from perdure.agents.tool import Tool, tool
from perdure.errors import InvalidToolError, ToolError, ToolRetry


def activity_tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    timeout: timedelta | None = None,
    max_attempts: int | None = None,
    max_result_bytes: int = 256 * 1024,
    needs_approval: bool | Policy = False,
    read_only: bool = False,
) -> Tool:
    """Return a tool that runs an activity: a function or a bound method that is decorated with `@activity.defn`.

    It sees an activity's context: `activity.info()` (with its own type), `is_cancelled()`, `client()`, the logger.
    An `ApplicationError` that it raises keeps its meaning: `non_retryable` and `next_retry_delay` are followed.
    Its heartbeats go nowhere, since perdure beats for it; details of heartbeats are not kept from one attempt to
    the next, and it can't complete asynchronously.

    Args:
        function: The activity.
        name: What the model calls it; the activity's type by default.
        description: What the model is told; the docstring by default.
        idempotent: Running a call twice does no more than running it once; only then is it run again.
        timeout: Time for one attempt; 5 minutes by default.
        max_attempts: Tries when it raises; 3 for an idempotent one, else 1.
        max_result_bytes: Longer results are cut, with a notice.
        needs_approval: As in `@tool`.
        read_only: It changes nothing outside.

    Raises:
        InvalidToolError: It is no activity, or can't be a tool. Not retryable.
    """
    definition = activity._Definition.from_callable(function)  # pyright: ignore[reportPrivateUsage] - no public way
    if definition is None:
        raise InvalidToolError(f"{function!r} is no activity: decorate it with @activity.defn, or use @tool.")
    if definition.name is None:
        raise InvalidToolError(f"{function!r} is a dynamic activity: it says nothing of its arguments.")
    declare = tool(
        name=definition.name if name is None else name,
        description=description,
        idempotent=idempotent,
        timeout=timeout,
        max_attempts=max_attempts,
        max_result_bytes=max_result_bytes,
        needs_approval=needs_approval,
        read_only=read_only,
    )
    return _ActivityTool(declare(function), activity_type=definition.name)


class _ActivityTool(Tool):
    """A tool whose function expects to be called by a Temporal worker."""

    def __init__(self, declared: Tool, *, activity_type: str) -> None:
        super().__init__(declared._function, declared.spec, declared._signature, policy=declared.policy)
        self._activity_type = activity_type

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Call the activity with bound arguments; a plain function runs in a thread."""
        try:
            with _posing_as(self._activity_type):
                return await super().run(arguments, context)
        except (ToolError, ToolRetry):
            raise
        except ApplicationError as error:
            raise ToolError(
                f"{error.type}: {error.message}" if error.type else error.message,
                is_retryable=not error.non_retryable,
                next_retry_delay=error.next_retry_delay,
            ) from None
        except activity._CompleteAsyncError:  # pyright: ignore[reportPrivateUsage] - no Exception
            raise ToolError(
                "it completes asynchronously, which a tool can't: nobody could record the result. It was started.",
                is_retryable=False,
                outcome="unknown",
            ) from None


@contextmanager
def _posing_as(activity_type: str) -> Generator[None]:
    """Show the activity its own type; heartbeats and their details are perdure's."""
    current = activity._Context.current()  # pyright: ignore[reportPrivateUsage] - no public way
    info = dataclasses.replace(current.info(), activity_type=activity_type, heartbeat_details=[])
    posing = dataclasses.replace(current, info=lambda: info, heartbeat=_ignore)
    token = activity._Context.set(posing)  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
    try:
        yield
    finally:
        activity._Context.reset(token)  # pyright: ignore[reportPrivateUsage]


def _ignore(*details: Any) -> None:
    """Take a heartbeat that nobody needs."""
