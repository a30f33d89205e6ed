"""Where a run is forked: what of its conversation is kept, and what is put behind it. Client side; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perdure.client._turns import Turns
from perdure.contracts.answers import is_answer
from perdure.contracts.calls import SlotMessage
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart, Message, TextPart, ToolCallPart, tool_message
from perdure.errors import InvalidInputError

_TAKEN = "The answer was given."
"""Said to the call that gave a structured answer: a vendor insists on a result for every call."""

Content = str | Sequence[ContentPart]


@dataclass(frozen=True, kw_only=True)
class ForkRequest:
    """What a fork is to be.

    Attributes:
        workflow_id: The run to fork.
        turn: The last turn to keep; when None, the last after which the model has something to do.
        message: What the user says next, in place of what users said then.
        models: In place of the model and its fallbacks.
        instructions: In place of the agent's.
        tool_results: Results of the last turn's tool calls, by the call's id, or its tool's name.
        limits: Over those of the run.
        id: The workflow id of the fork.
    """

    workflow_id: str
    turn: int | None = None
    message: Content | None = None
    models: Sequence[str] = ()
    instructions: str | None = None
    tool_results: Mapping[str, Content] = field(default_factory=dict[str, Content])
    limits: Limits | None = None
    id: str | None = None

    @property
    def changes(self) -> tuple[str, ...]:
        """What is not as in the other run, in words."""
        told = [f"model {', '.join(self.models)}"] if self.models else []
        told += ["instructions"] if self.instructions is not None else []
        told += [f"result of {call}" for call in self.tool_results]
        told += ["message"] if self.message is not None else []
        return tuple(told)


@dataclass(frozen=True)
class ForkPoint:
    """What a fork's conversation begins with.

    Attributes:
        turn: The last turn that is kept.
        end: How many slots of the other conversation are kept, or replaced.
        given: Messages in place of some of them, and behind them.
    """

    turn: int
    end: int
    given: tuple[SlotMessage, ...]

    @property
    def slots(self) -> int:
        """Length of the conversation that the fork begins with."""
        return max((self.end, *(each.slot + 1 for each in self.given)))


def fork_point(turns: Turns, request: ForkRequest) -> ForkPoint:
    """Return where a run is forked.

    Raises:
        InvalidInputError: It has no such turn, or the model would have nothing to do after it. Not retryable.
    """
    turn = _default_turn(turns, request) if request.turn is None else request.turn
    if turn > len(turns.replies):
        raise InvalidInputError(
            f"The run {turns.workflow_id!r} has {len(turns.replies)} turns: it can't be forked at turn {turn}."
        )
    results = _results(turns, turn, request.tool_results)
    fault = _fault(turns, turn, request, results)
    if fault:
        raise InvalidInputError(fault)
    results |= _behind_gap(turns, turn, results)
    end = _end(turns, turn, request, results)
    given = [SlotMessage(slot=slot, message=results[slot]) for slot in sorted(results)]
    if request.message is not None:
        said = (*_closing(turns, turn, end), _user(request.message))
        given += [SlotMessage(slot=slot, message=message) for slot, message in enumerate(said, end)]
    return ForkPoint(turn, end, tuple(given))


def _user(content: Content) -> Message:
    parts = (TextPart(text=content),) if isinstance(content, str) else tuple(content)
    return Message(role="user", parts=parts)


def _default_turn(turns: Turns, request: ForkRequest) -> int:
    for turn in reversed(range(len(turns.replies) + 1)):
        try:
            if not _fault(turns, turn, request, _results(turns, turn, request.tool_results)):
                return turn
        except InvalidInputError:
            if turn == 0:
                raise
    return 0


def _reply(turns: Turns, turn: int) -> tuple[int, Message] | None:
    if turn == 0:
        return None
    slot = turns.replies[turn - 1]
    return slot, turns.messages[slot]


def _calls(turns: Turns, turn: int) -> dict[int, ToolCallPart]:
    """Return the tool calls of a turn by the slots of their results; none of a reply that is an answer."""
    found = _reply(turns, turn)
    if found is None or is_answer(found[1]):
        return {}
    return dict(enumerate(found[1].tool_calls, found[0] + 1))


def _results(turns: Turns, turn: int, given: Mapping[str, Content]) -> dict[int, Message]:
    """Return the results to put in place, by slot.

    Raises:
        InvalidInputError: The turn has no such call. Not retryable.
    """
    calls = _calls(turns, turn)
    results: dict[int, Message] = {}
    for name, content in given.items():
        slots = [slot for slot, call in calls.items() if call.id == name] or [
            slot for slot, call in calls.items() if call.name == name
        ]
        if len(slots) != 1:
            known = ", ".join(f"{call.id} ({call.name})" for call in calls.values())
            several = "several calls" if slots else "no call"
            raise InvalidInputError(
                f"Turn {turn} of {turns.workflow_id!r} has {several} {name!r}. "
                + (f"Its calls: {known}." if known else "It calls no tool.")
            )
        parts = content if isinstance(content, str) else tuple(content)
        results[slots[0]] = tool_message(calls[slots[0]], parts)
    return results


def _fault(turns: Turns, turn: int, request: ForkRequest, results: Mapping[int, Message]) -> str:
    """Return why a run can't be forked at a turn; empty where it can."""
    found = _reply(turns, turn)
    if found is None:
        return "" if turns.messages or request.message is not None else "The run has not begun yet."
    slot, reply = found
    missing = [
        f"{call.id} ({call.name})"
        for at, call in _calls(turns, turn).items()
        if at not in results and turns.recorded(at) is None
    ]
    if missing:
        return (
            f"Turn {turn} of {turns.workflow_id!r} has no result of {', '.join(missing)}: fork at turn "
            f"{turn - 1}, or give it with --tool-result."
        )
    if not is_answer(reply) or turns.end(turn) > slot + 1:
        return ""
    result = turns.result(slot)
    if result is not None and result.problem:
        return f"Turn {turn} of {turns.workflow_id!r} could not be used: fork at turn {turn - 1}."
    if request.message is None:
        return (
            f"Turn {turn} of {turns.workflow_id!r} is the answer: say what comes next with --message, or fork "
            "at an earlier turn."
        )
    return ""


def _behind_gap(turns: Turns, turn: int, results: Mapping[int, Message]) -> dict[int, Message]:
    """Return recorded results of a turn that was cut off: what lies behind a gap isn't copied in pages."""
    recorded = {slot: turns.recorded(slot) for slot in _calls(turns, turn) if slot >= len(turns.messages)}
    return {slot: message for slot, message in recorded.items() if message is not None and slot not in results}


def _end(turns: Turns, turn: int, request: ForkRequest, results: Mapping[int, Message]) -> int:
    end = max((turns.end(turn), *(slot + 1 for slot in results)))
    asked = turns.asked(end)
    if asked is not None and asked.is_final and turns.messages[end - 1].author:
        end -= 1  # it said that a limit was reached, which is not so for the fork
    if request.message is not None:
        floor = max((turns.after_results(turn), *(slot + 1 for slot in results)))
        while end > floor and _is_said(turns.messages[end - 1]):
            end -= 1
    return end


def _is_said(message: Message) -> bool:
    """Say whether a person wrote a message."""
    return message.role == "user" and message.author != "perdure"


def _closing(turns: Turns, turn: int, end: int) -> list[Message]:
    """Return the results that a vendor wants of the calls with which an answer was given."""
    found = _reply(turns, turn)
    if found is None or not is_answer(found[1]) or end > found[0] + 1:
        return []
    return [tool_message(call, _TAKEN) for call in found[1].tool_calls]
