"""Where a run is forked: what of its conversation is kept, and what is put behind it. Client side; pure."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from perdure.client._turns import Chain, Turn
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

    turn: Turn
    end: int
    given: tuple[SlotMessage, ...]

    @property
    def slots(self) -> int:
        """Length of the conversation that the fork begins with."""
        return max((self.end, *(each.slot + 1 for each in self.given)))


def fork_point(chain: Chain, request: ForkRequest) -> ForkPoint:
    """Return where a run is forked.

    Raises:
        InvalidInputError: It has no such turn, or the model would have nothing to do after it. Not retryable.
    """
    turn = _find(chain, request)
    results = _results(turn, request.tool_results)
    fault = _fault(turn, request, results)
    if fault:
        raise InvalidInputError(f"The run {chain.workflow_id!r} can't be forked so. {fault}")
    results |= _behind_gap(turn, results)
    end = _end(turn, request, results)
    given = [SlotMessage(slot=slot, message=results[slot]) for slot in sorted(results)]
    if request.message is not None:
        said = (*_closing(turn, end), _user(request.message))
        given += [SlotMessage(slot=slot, message=message) for slot, message in enumerate(said, end)]
    return ForkPoint(turn, end, tuple(given))


def _find(chain: Chain, request: ForkRequest) -> Turn:
    """Return the turn that is asked for, else the last that will do."""
    if request.turn is not None:
        if request.turn > chain.count:
            raise InvalidInputError(
                f"The run {chain.workflow_id!r} has {chain.count} turns: it can't be forked at turn "
                f"{request.turn}."
            )
        return chain.turn(request.turn)
    for number in reversed(range(1, chain.count + 1)):
        turn = chain.turn(number)
        with suppress(InvalidInputError):
            if not _fault(turn, request, _results(turn, request.tool_results)):
                return turn
    return chain.turn(0)


def _user(content: Content) -> Message:
    parts = (TextPart(text=content),) if isinstance(content, str) else tuple(content)
    return Message(role="user", parts=parts)


def _calls(turn: Turn) -> dict[int, ToolCallPart]:
    """Return the tool calls of a turn by the slots of their results; none of a reply that is an answer."""
    if turn.reply is None or is_answer(turn.reply):
        return {}
    return dict(enumerate(turn.reply.tool_calls, turn.slot + 1))


def _results(turn: Turn, given: Mapping[str, Content]) -> dict[int, Message]:
    """Return the results to put in place, by slot.

    Raises:
        InvalidInputError: The turn has no such call. Not retryable.
    """
    calls = _calls(turn)
    results: dict[int, Message] = {}
    for name, content in given.items():
        slots = [slot for slot, call in calls.items() if call.id == name] or [
            slot for slot, call in calls.items() if call.name == name
        ]
        if len(slots) != 1:
            known = ", ".join(f"{call.id} ({call.name})" for call in calls.values())
            raise InvalidInputError(
                f"Turn {turn.number} has {'several calls' if slots else 'no call'} {name!r}. "
                + (f"Its calls: {known}." if known else "It calls no tool.")
            )
        parts = content if isinstance(content, str) else tuple(content)
        results[slots[0]] = tool_message(calls[slots[0]], parts)
    return results


def _fault(turn: Turn, request: ForkRequest, results: Mapping[int, Message]) -> str:
    """Return why a run can't be forked at a turn; empty where it can."""
    if turn.reply is None:
        return "" if turn.messages or request.message is not None else "It has not begun yet."
    missing = [
        f"{call.id} ({call.name})"
        for slot, call in _calls(turn).items()
        if slot not in results and turn.recorded(slot) is None
    ]
    if missing:
        return (
            f"Turn {turn.number} has no result of {', '.join(missing)}: fork at turn {turn.number - 1}, or give "
            "it with --tool-result."
        )
    if not is_answer(turn.reply) or turn.end > turn.slot + 1:
        return ""
    result = turn.result(turn.slot)
    if result is not None and result.problem:
        return f"Turn {turn.number} could not be used: fork at turn {turn.number - 1}."
    if request.message is None:
        return f"Turn {turn.number} is the answer: say what comes next with --message, or fork at an earlier turn."
    return ""


def _behind_gap(turn: Turn, results: Mapping[int, Message]) -> dict[int, Message]:
    """Return recorded results of a turn that was cut off: what lies behind a gap isn't copied in pages."""
    recorded = {slot: turn.recorded(slot) for slot in _calls(turn) if slot >= len(turn.messages)}
    return {slot: message for slot, message in recorded.items() if message is not None and slot not in results}


def _end(turn: Turn, request: ForkRequest, results: Mapping[int, Message]) -> int:
    end = max((turn.end, *(slot + 1 for slot in results)))
    asked = turn.asked(end)
    if asked is not None and asked.is_final and turn.messages[end - 1].author:
        end -= 1  # it said that a limit was reached, which is not so for the fork
    if request.message is not None:
        floor = max((turn.after_results, *(slot + 1 for slot in results)))
        while end > floor and _is_said(turn.messages[end - 1]):
            end -= 1
    return end


def _is_said(message: Message) -> bool:
    """Say whether a person wrote a message."""
    return message.role == "user" and message.author != "perdure"


def _closing(turn: Turn, end: int) -> list[Message]:
    """Return the results that a vendor wants of the calls with which an answer was given."""
    if turn.reply is None or not is_answer(turn.reply) or end > turn.slot + 1:
        return []
    return [tool_message(call, _TAKEN) for call in turn.reply.tool_calls]
