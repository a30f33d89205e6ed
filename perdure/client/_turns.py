"""The turns of an agent's run, from Event History. Client side; needs no worker.

Turns are counted as a transcript counts them: by the model's messages in the conversation, over the whole chain of
runs. What belongs to a turn is the model's message, the answers to its tool calls, and what perdure said of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.client import Client
from temporalio.service import RPCError

from perdure.client._runs import RunInfo, describe, not_found, to_info
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.messages import Message
from perdure.contracts.names import AGENT_WORKFLOW, MAIN_CONVERSATION
from perdure.contracts.run import Carried
from perdure.contracts.spec import AgentSpec
from perdure.errors import InvalidInputError, RunNotFoundError
from perdure.history import RecordedRun, read_run


@dataclass(frozen=True)
class Turns:
    """The conversation of one run of a chain, as its own history has it.

    Attributes:
        workflow_id: The workflow.
        run_id: The run.
        run: What its history says.
        epoch: Of the conversation.
        messages: From slot 0 up to the first that isn't there.
        replies: Slots of the model's messages.
    """

    workflow_id: str
    run_id: str
    run: RecordedRun
    epoch: int
    messages: Sequence[Message]
    replies: Sequence[int]

    @property
    def carried(self) -> Carried | None:
        """What the run was given by the one before."""
        return None if self.run.request is None else self.run.request.carried

    def end(self, turn: int) -> int:
        """Return the slot behind a turn, and behind all that was said before the model was asked again."""
        return self.replies[turn] if turn < len(self.replies) else len(self.messages)

    def after_results(self, turn: int) -> int:
        """Return the slot behind the model's message and the answers to its calls, as far as they are there."""
        if turn == 0:
            return 0
        slot = self.replies[turn - 1]
        return min(slot + 1 + len(self.messages[slot].tool_calls), self.end(turn))

    def recorded(self, slot: int) -> Message | None:
        """Return a message, also one behind a gap."""
        return self.run.conversation(MAIN_CONVERSATION, self.epoch).get(slot)

    def asked(self, slot: int) -> CallModelRequest | None:
        """Return the model call for a slot, where this run made it."""
        return self.run.asked.get((MAIN_CONVERSATION, self.epoch, slot))

    def result(self, slot: int) -> CallModelResult | None:
        """Return the result of the model call for a slot, where this run made it."""
        return self.run.model_results.get((MAIN_CONVERSATION, self.epoch, slot))

    def pinned(self, slot: int) -> AgentSpec | None:
        """Return the spec of the model call for a slot, where this run made it."""
        asked = self.asked(slot)
        return None if asked is None else self.run.specs.get(asked.spec)

    def spec_at(self, slot: int) -> AgentSpec | None:
        """Return what the run was pinned to when the model was last asked, up to a slot; None before it began."""
        asked = [n for (_, epoch, n) in self.run.asked if n <= slot and epoch == self.epoch]
        return self.pinned(max(asked)) if asked else next(iter(self.run.specs.values()), None)


async def read_turns(client: Client, workflow_id: str) -> tuple[RunInfo, Turns]:
    """Read the conversation of an agent's run, open or closed.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: It is no run of an agent. Not retryable.
    """
    described = await describe(client, workflow_id)
    info = to_info(described.workflow_execution_info, client)
    if info.workflow != AGENT_WORKFLOW:
        raise InvalidInputError(
            f"The run {workflow_id!r} is a {info.workflow}, and has no turns of its own: `perdure show "
            f"{workflow_id}` names the runs of agents below it."
        )
    turns = await _read(client, workflow_id, info.run_id)
    while turns.carried is not None and len(turns.messages) < turns.carried.conversation_slots:
        earlier = await read_earlier(client, turns)  # it has no copy of its own yet
        if earlier is None:
            break
        turns = earlier
    return info, turns


async def read_earlier(client: Client, turns: Turns) -> Turns | None:
    """Read the run that one of a chain goes on from; None for the first, and where it is no longer retained."""
    if turns.carried is None or turns.carried.fork is not None:
        return None
    try:
        return await _read(client, turns.workflow_id, turns.carried.from_run_id)
    except RunNotFoundError:
        return None


async def _read(client: Client, workflow_id: str, run_id: str) -> Turns:
    try:
        run = await read_run(client, workflow_id, run_id)
    except RPCError as error:
        raise not_found(error, workflow_id) from None
    epoch = max((epoch for name, epoch in run.conversations if name == MAIN_CONVERSATION), default=0)
    slots = run.conversation(MAIN_CONVERSATION, epoch)
    messages: list[Message] = []
    while len(messages) in slots:
        messages.append(slots[len(messages)])
    replies = [n for n, message in enumerate(messages) if message.role == "assistant"]
    return Turns(workflow_id, run_id, run, epoch, messages, replies)
