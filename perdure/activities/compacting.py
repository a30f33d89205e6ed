"""The activity that makes room in a conversation without a model. Activity side.

What a user's function does to a conversation is recorded as its result: a retry may do it otherwise.
"""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity

from perdure.activities._cache import ConversationKey
from perdure.activities._compacting import Parts, as_parts, find_fault, has_room, plan_dropping
from perdure.activities._lookup import Lookup
from perdure.agents.compaction import CompactBy
from perdure.agents.registry import Registry
from perdure.contracts.calls import CompactRequest, CompactResult
from perdure.contracts.compaction import compacted
from perdure.contracts.messages import Message
from perdure.contracts.names import COMPACT
from perdure.errors import UserError

_MAX_BYTES = 1_000_000
"""New messages of a compaction together; Temporal's limit is 2 MiB."""


class CompactActivities:
    """Makes room on behalf of runs."""

    def __init__(self, *, registry: Registry, lookup: Lookup, redact: Callable[[str], str]) -> None:
        """Work with these; `redact` takes the secrets out of a text."""
        self._registry = registry
        self._lookup = lookup
        self._redact = redact

    @activity.defn(name=COMPACT)
    async def compact(self, request: CompactRequest) -> CompactResult:
        """Return how the next epoch of a conversation is made.

        The worker's cache is told nothing: a second attempt may decide otherwise, and its result counts.

        Raises:
            UserError: The function is gone, failed, or returned what no model can go on with. Not retryable.
            ConversationUnavailableError: Retryable.
        """
        info = activity.info()
        workflow_id, run_id = info.workflow_id or "", info.workflow_run_id or ""
        key = ConversationKey(workflow_id, run_id, request.conversation, request.epoch)
        spec = await self._lookup.spec(request.spec, workflow_id, run_id)
        slots = await self._lookup.slots(key, request.slots, request.new, digest=request.digest)
        messages = [slot.message for slot in slots]
        assert spec.compaction is not None, "a run without it makes no such call"
        if request.step.action == "function":
            function = self._function(spec.name, request.step.function)
            parts = await self._by_function(function, messages, request.room.target_tokens)
        else:
            parts = plan_dropping(messages, request.room, spec.compaction.keep_turns)
            if request.must_suffice and not has_room(compacted(messages, parts), request.room):
                parts = ()
        return CompactResult(compacted=parts)

    def _function(self, agent: str, name: str) -> CompactBy:
        found = self._registry.agent(agent).compaction.functions.get(name)
        if found is None:
            raise UserError(f"Agent {agent!r} no longer has the function {name!r}, which makes room for its runs.")
        return found

    async def _by_function(self, function: CompactBy, messages: Sequence[Message], target_tokens: int) -> Parts:
        name = getattr(function, "__name__", "compaction")
        try:
            returned = await _call(function, list(messages), target_tokens)
        except Exception as error:
            reason = self._redact(f"{type(error).__name__}: {error}")
            raise UserError(f"The function {name!r}, which makes room, failed: {reason}") from None
        after = _checked(name, returned)
        parts = as_parts(messages, after)
        size = sum(len(part.message.to_bytes()) for part in parts if part.message is not None)
        if size > _MAX_BYTES:
            raise UserError(
                f"The function {name!r} returned {size} bytes of new messages, more than {_MAX_BYTES}: it is to "
                "make room. Return the messages that stay as they were given."
            )
        return parts if after != list(messages) else ()


async def _call(function: CompactBy, messages: list[Message], target_tokens: int) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(messages, target_tokens)
    return await asyncio.to_thread(function, messages, target_tokens)


def _checked(name: str, returned: Any) -> list[Message]:
    if not isinstance(returned, Sequence) or not all(isinstance(each, Message) for each in returned):  # pyright: ignore[reportUnknownVariableType]
        raise UserError(f"The function {name!r} returned a {type(returned).__name__}: return a list of messages.")  # pyright: ignore[reportUnknownArgumentType]
    messages: list[Message] = list(returned)  # pyright: ignore[reportUnknownArgumentType]
    if fault := find_fault(messages):
        raise UserError(f"The function {name!r} returned a conversation that no model can go on with: {fault}.")
    return messages
