"""Finding the slots of a conversation, and a run's spec. Activity side; reads, never records.

The order is: what came with the request, the worker's cache, the workflow itself by query, and Event History when
the workflow can't answer (its only worker is draining, its workflow task fails), or ended before it took in all
that came. A query is strongly consistent here: the workflow task that scheduled the activity is complete.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError

from perdure.activities._cache import ConversationKey, MessageCache, Slot, SpecCache
from perdure.agents.registry import Registry
from perdure.contracts.calls import SlotMessage
from perdure.contracts.digests import ConversationDigest, told_digest
from perdure.contracts.messages import Message, repeat_result
from perdure.contracts.names import MESSAGES_QUERY, SPEC_QUERY
from perdure.contracts.run import MessagesPage, MessagesQuery
from perdure.contracts.spec import AgentSpec
from perdure.errors import ConversationUnavailableError
from perdure.history import RecordedRun, read_run

_QUERY_TIMEOUT = timedelta(seconds=3)
_NO_ANSWER = (RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError)


class Lookup:
    """Slots and specs of the run that an activity belongs to."""

    def __init__(self, registry: Registry, *, cache: MessageCache, specs: SpecCache) -> None:
        """Look in these caches first."""
        self._registry = registry
        self.cache = cache
        self.specs = specs
        self._hits = 0
        self._misses = 0

    def take_counts(self) -> tuple[int, int]:
        """Return how many messages of prompts were known, and how many looked up, since this was asked."""
        counts = self._hits, self._misses
        self._hits = self._misses = 0
        return counts

    async def slots(
        self, key: ConversationKey, count: int, new: Sequence[SlotMessage] = (), *, digest: str = ""
    ) -> list[Slot]:
        """Return the first `count` slots of a conversation.

        Args:
            key: The conversation.
            count: How many.
            new: Messages that came with the request.
            digest: Of the messages as they were recorded. What the cache has may be what another attempt made,
                which Temporal had given up: then all of it is looked up. Any will do where this is empty.

        Raises:
            ConversationUnavailableError: Retryable, and no attempt at the vendor.
        """
        found = await self._gather(key, count, new)
        if digest and ConversationDigest([slot.digest for slot in found]).told() != digest:
            self.cache.forget(key)
            found = await self._gather(key, count, new)
        return found

    async def _gather(self, key: ConversationKey, count: int, new: Sequence[SlotMessage]) -> list[Slot]:
        cached = self.cache.get(key)
        if not new and (all_known := _first(cached, count)) is not None:
            self._hits += count
            return all_known
        known = dict(cached)
        given = {each.slot: each for each in new if not each.sent}
        missing = [number for number in range(count) if number not in known and number not in given]
        self._misses += len(missing)
        self._hits += count - len(missing)
        fresh: dict[int, Slot] = {}
        if missing:
            pulled = await self._pull(key, missing[0], missing[-1] + 1)
            fresh = {number: slot for number, slot in pulled.items() if number not in known}
        for number, each in sorted(given.items()):
            source = None if each.same_as is None else fresh.get(each.same_as) or known.get(each.same_as)
            if each.same_as is not None and source is None:
                continue
            message = each.message if source is None else repeat_result(each.message, source.message)
            if number not in known or known[number].message != message:
                fresh[number] = Slot(message)
        known.update(fresh)
        found = _first(known, count)
        if found is None:
            raise _unavailable(key, count)
        self.cache.put(key, fresh)
        return found

    async def slot(self, key: ConversationKey, number: int, *, digest: str = "") -> Slot:
        """Return one slot, as `slots` does; `digest` is that of its message."""
        known = self.cache.get(key).get(number)
        if known is None or (digest and told_digest(known.digest) != digest):
            return await self.recorded_slot(key, number)
        return known

    async def recorded_slot(self, key: ConversationKey, number: int) -> Slot:
        """Return one slot as it was recorded, whatever this worker remembers. Raises what `slots` does."""
        found = (await self._pull(key, number, number + 1)).get(number)
        if found is None:
            raise _unavailable(key, number + 1)
        return found

    async def spec(self, digest: str, workflow_id: str, run_id: str) -> AgentSpec:
        """Return the spec that a run is pinned to."""
        spec = self.specs.get(digest)
        if spec is None:
            spec = await self._find_spec(digest, workflow_id, run_id)
            self.specs.put(spec)
        return spec

    async def _pull(self, key: ConversationKey, start: int, stop: int) -> dict[int, Slot]:
        try:
            messages = await _query_messages(activity.client(), key, start, stop)
        except _NO_ANSWER:
            messages = {}
        if any(number not in messages for number in range(start, stop)):
            # Also where a closed run answers: what came as it ended is in history, and it never took it in.
            messages = {**await _read_messages(key), **messages}
        return {number: Slot(message) for number, message in messages.items()}

    async def _find_spec(self, digest: str, workflow_id: str, run_id: str) -> AgentSpec:
        client = activity.client()
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            spec: AgentSpec | None = await handle.query(
                SPEC_QUERY, digest, result_type=AgentSpec, rpc_timeout=_QUERY_TIMEOUT
            )
        except _NO_ANSWER:
            spec = None
        if spec is None:  # nobody answers, or the run has handed over since to another agent
            spec = (await _read_history(client, workflow_id, run_id)).specs.get(digest)
        if spec is None:
            raise ConversationUnavailableError(f"The spec {digest} was not found.")
        return spec


def _first(known: Mapping[int, Slot], count: int) -> list[Slot] | None:
    """Return the first `count` slots; None where one of them is not there."""
    try:
        return [known[number] for number in range(count)]
    except KeyError:
        return None


async def _query_messages(client: Client, key: ConversationKey, start: int, stop: int) -> dict[int, Message]:
    handle = client.get_workflow_handle(key.workflow_id, run_id=key.run_id)
    messages: dict[int, Message] = {}
    while start < stop:
        page: MessagesPage = await handle.query(
            MESSAGES_QUERY,
            MessagesQuery(conversation=key.conversation, start=start, stop=stop, epoch=key.epoch),
            result_type=MessagesPage,
            rpc_timeout=_QUERY_TIMEOUT,
        )
        if not page.messages:
            break
        messages.update(enumerate(page.messages, page.start))
        start = page.start + len(page.messages)
    return messages


async def _read_messages(key: ConversationKey) -> dict[int, Message]:
    run = await _read_history(activity.client(), key.workflow_id, key.run_id)
    return run.conversation(key.conversation, key.epoch)


async def _read_history(client: Client, workflow_id: str, run_id: str) -> RecordedRun:
    try:
        return await read_run(client, workflow_id, run_id)
    except RPCError as error:
        raise ConversationUnavailableError(f"Neither the run nor its history can be read: {error}") from None


def _unavailable(key: ConversationKey, count: int) -> ConversationUnavailableError:
    return ConversationUnavailableError(
        f"Not all of the first {count} messages of {key.conversation!r} of run {key.run_id} could be found."
    )
