"""The turns of an agent's run, from Event History. Client side; needs no worker.

Turns are counted as a full transcript counts them: by the model's messages, over the whole chain of runs and over
what was left out to make room. What belongs to a turn is the model's message, the answers to its tool calls, and
what perdure said of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.client import Client

from perdure.client._runs import RunInfo, describe, to_info
from perdure.client._transcript import read_chain, said_in
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.messages import Message
from perdure.contracts.names import AGENT_WORKFLOW, MAIN_CONVERSATION
from perdure.contracts.run import Carried
from perdure.contracts.spec import AgentSpec
from perdure.errors import InvalidInputError
from perdure.history import RecordedRun


@dataclass(frozen=True)
class Turn:
    """A turn, in the conversation as it was then.

    Attributes:
        number: Its number; 0 for what was said before the first.
        slot: Of the model's message; -1 for turn 0.
        run_id: The run of the chain whose history has the conversation.
        run: What that history says.
        epoch: Of the conversation.
        messages: The conversation from slot 0, up to the first slot that isn't there.
    """

    number: int
    slot: int
    run_id: str
    run: RecordedRun
    epoch: int
    messages: Sequence[Message]

    @property
    def reply(self) -> Message | None:
        """The model's message; None for turn 0."""
        return self.messages[self.slot] if self.slot >= 0 else None

    @property
    def carried(self) -> Carried | None:
        """What the run was given by the one before."""
        return None if self.run.request is None else self.run.request.carried

    @property
    def end(self) -> int:
        """The slot behind the turn, and behind all that was said before the model was asked again."""
        later = (n for n in range(self.slot + 1, len(self.messages)) if self.messages[n].role == "assistant")
        return next(later, len(self.messages))

    @property
    def after_results(self) -> int:
        """The slot behind the model's message and the answers to its calls, as far as they are there."""
        reply = self.reply
        return 0 if reply is None else min(self.slot + 1 + len(reply.tool_calls), self.end)

    def recorded(self, slot: int) -> Message | None:
        """Return a message, also one behind a gap."""
        return self.run.conversation(MAIN_CONVERSATION, self.epoch).get(slot)

    def asked(self, slot: int) -> CallModelRequest | None:
        """Return the model call for a slot, where this run made it."""
        return self.run.asked.get((MAIN_CONVERSATION, self.epoch, slot))

    def result(self, slot: int) -> CallModelResult | None:
        """Return the result of the model call for a slot, where this run made it."""
        return self.run.model_results.get((MAIN_CONVERSATION, self.epoch, slot))

    def pinned_up_to(self, slot: int) -> list[AgentSpec]:
        """Return what the run was pinned to at its start, and at each model call up to a slot, in order."""
        first = list(self.run.specs.values())[:1]
        asked = sorted((e, n) for _, e, n in self.run.asked if (e, n) <= (self.epoch, slot))
        specs = [self.run.specs.get(self.run.asked[(MAIN_CONVERSATION, e, n)].spec) for e, n in asked]
        return first + [spec for spec in specs if spec is not None]


class Chain:
    """The runs of a chain, and the turns that they took.

    Attributes:
        workflow_id: Of all of them.
        runs: Each with its run id, the oldest first.
        count: How many turns they took.
    """

    def __init__(self, workflow_id: str, runs: Sequence[tuple[str, RecordedRun]]) -> None:
        """Count the turns."""
        self.workflow_id = workflow_id
        self.runs = runs
        self._places = [
            (number, entry.epoch, entry.slot)
            for number, (_, run) in enumerate(runs)
            for entry in said_in(run, is_first=number == 0)
            if entry.message.role == "assistant"
        ]
        self.count = len(self._places)
        self._copied = [_copied(run) for _, run in runs]

    def turn(self, number: int, *, holder: int | None = None) -> Turn:
        """Return a turn, 0 to `count`, as the latest run has it that has it; or the run of that index."""
        run, epoch, slot = self._places[number - 1] if number else (0, self._first_epoch, -1)
        if holder is None:
            holder = self._latest(run, epoch, slot)
        run_id, found = self.runs[holder]
        slots = found.conversation(MAIN_CONVERSATION, epoch)
        messages: list[Message] = []
        while len(messages) in slots:
            messages.append(slots[len(messages)])
        return Turn(number, slot, run_id, found, epoch, messages)

    @property
    def _first_epoch(self) -> int:
        return min((e for name, e in self.runs[0][1].conversations if name == MAIN_CONVERSATION), default=0)

    def holders(self, number: int) -> list[int]:
        """Return the indices of the runs that have a turn, the latest first."""
        run, epoch, slot = self._places[number - 1] if number else (0, self._first_epoch, -1)
        return list(range(self._latest(run, epoch, slot), run - 1, -1))

    def _latest(self, run: int, epoch: int, slot: int) -> int:
        """Return the last run that a slot was copied to: of its whole epoch, all that was said then."""
        while run + 1 < len(self.runs):
            after, count = self._copied[run + 1]
            if after != epoch or slot >= count:
                break
            run += 1
        return run


def _copied(run: RecordedRun) -> tuple[int, int]:
    """Return the epoch that a run copied from the one before, and how many slots; 0 until it has copied all."""
    carried = None if run.request is None else run.request.carried
    if carried is None:
        return 0, 0
    slots = ((MAIN_CONVERSATION, carried.epoch, n) for n in range(carried.conversation_slots))
    return carried.epoch, carried.conversation_slots if all(slot in run.copied for slot in slots) else 0


async def read_turns(client: Client, workflow_id: str) -> tuple[RunInfo, Chain]:
    """Read the runs of an agent's chain, open or closed, as far as they are retained.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: It is no run of an agent. Not retryable.
    """
    info = await agents_run(client, workflow_id)
    runs, _ = await read_chain(client, workflow_id)
    return info, Chain(workflow_id, runs)


async def agents_run(client: Client, workflow_id: str) -> RunInfo:
    """Return what the server says of an agent's run.

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
    return info
