"""`SchemaTool`: a tool that is described by a JSON schema instead of a Python signature. Both sides declare it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from perdure.agents.approvals import Policy
from perdure.agents.context import ToolContext
from perdure.agents.tool import Tool, check_options
from perdure.contracts.spec import ToolSpec


class OutcomeUnknown(Exception):
    """A handler raises it: the call was sent, and may or may not have taken effect; the text says why."""


Handler = Callable[[dict[str, Any], ToolContext], Awaitable[Any]]
"""Answers a call whose arguments fit the tool's schema."""


class SchemaTool(Tool):
    """What an API or another program describes itself: an operation of OpenAPI, a tool of MCP.

    Args:
        handler: Answers a call. Returns what a tool returns; raises `ToolError` or `ToolRetry` for the model.
        spec: Its name, description and schema, and the policy of its calls.
        policy: Says for each call whether it needs approval.

    Raises:
        InvalidToolError: An option can't be used. Not retryable.
    """

    def __init__(self, handler: Handler, spec: ToolSpec, *, policy: Policy | None = None) -> None:
        """Check the options."""
        check_options(spec)
        super().__init__(handler, spec, None, policy=policy)
        self._handler = handler
        self.__doc__ = spec.description

    @property
    def sees_context(self) -> bool:
        """The values of the run are nothing to it: equal calls have equal answers."""
        return False

    @property
    def is_checked_there(self) -> bool:
        """Whether who answers checks the arguments, so that it isn't done here."""
        return False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """There is no function to call without a worker."""
        raise TypeError(f"The tool {self.name!r} is described by a schema: only a run can call it.")

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as they are: they were checked against the schema."""
        return dict(arguments)

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Have the call answered."""
        return await self._handler(arguments, context)
