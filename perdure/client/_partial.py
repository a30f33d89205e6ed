"""What a run had when it was ended from outside. Client side; from Event History, without a worker."""

from temporalio.client import Client
from temporalio.service import RPCError

from perdure.errors import PerdureError, RunCancelled, RunTerminated
from perdure.history import read_run

_PARTIAL_CHARS = 10_000


async def with_partial(client: Client, workflow_id: str, failure: PerdureError) -> PerdureError:
    """Return the same failure, with the last text of the model, and how many turns there were, as attributes."""
    if not isinstance(failure, RunCancelled | RunTerminated):
        return failure
    try:
        run = await read_run(client, workflow_id)
    except RPCError:
        return failure
    conversation = run.conversation()
    replies = [conversation[slot] for slot in sorted(conversation) if conversation[slot].role == "assistant"]
    text = next((message.text for message in reversed(replies) if message.text), "")
    if not replies:
        return failure
    return failure.told_by("", partial=text[:_PARTIAL_CHARS], turns=len(replies))
