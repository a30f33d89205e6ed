"""`WaitBook`: what a run waits for people for, and what they said. Workflow side; pure.

A wait is pending until a person decides, or its time is over. A decision is kept until the run acts on it, so that
none is lost where both meet a Continue-As-New, and remembered after that, so that a second one is told what was.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perdure.contracts.run import RunState
from perdure.contracts.texts import cut, one_line
from perdure.contracts.waits import (
    MAX_ARGUMENT_BYTES,
    MAX_REASON_CHARS,
    DecideRequest,
    Decision,
    Wait,
    WaitOutcome,
    WaitsPage,
    WaitsState,
)
from perdure.errors import InvalidInputError

_REMEMBERED = 200
_SHOWN_DECISIONS = 50
_PAGE_BYTES = 1_000_000
MAX_CARRIED = 1000
"""Waits that fit into what a run hands to its successor."""
_CARRIED_NOTES_BYTES = 50_000
"""Of all that policies said: they are asked once, so nothing else knows it after Continue-As-New."""
MAX_HELD_BYTES = 500_000
"""Of answers and edited arguments that the run has not passed on: they share a payload, of at most 2 MiB."""
_SMALL_BYTES = 500
"""A decision of so much is taken in any case, so that every wait can be ended."""

Faults = Callable[[Any], list[str]]
"""Says what is wrong with a value: edited arguments, or an answer."""

_DONE: dict[str, WaitOutcome] = {"approve": "approved", "deny": "denied", "answer": "answered"}


@dataclass
class _Entry:
    wait: Wait
    faults: Faults | None = None
    """None where the run has just continued as new, and not come to it yet."""


class WaitBook:
    """The waits of one run.

    Attributes:
        on_change: Called when what is pending has changed.
    """

    def __init__(self, state: WaitsState | None = None) -> None:
        """Go on with what the run before knew."""
        known = state or WaitsState()
        self.on_change: Callable[[], None] = lambda: None
        self._pending = {wait.id: _Entry(wait) for wait in known.pending}
        self._unused = {each.wait: each for each in known.unused}
        self._entered: Counter[str] = Counter()
        self._decided = {each.wait: each for each in known.decided}
        self._allowed = dict.fromkeys(known.allowed)

    @property
    def pending(self) -> tuple[Wait, ...]:
        """What nobody has decided, the oldest first."""
        return tuple(entry.wait for entry in self._pending.values())

    def run_state(self) -> RunState | None:
        """Return what the run is said to wait for; None when nothing."""
        kinds = {entry.wait.kind for entry in self._pending.values()}
        if not kinds:
            return None
        return "waiting_approval" if "approval" in kinds else "waiting_answer"

    def told(self) -> str:
        """Return what the run waits for, in words; empty when nothing."""
        words = [
            f"approval of {wait.tool}" if wait.kind == "approval" else f"an answer to {one_line(wait.question)!r}"
            for wait in self.pending[:5]
        ]
        more = f" and {len(self._pending) - 5} more" if len(self._pending) > 5 else ""
        return f"waits for {', '.join(words)}{more}" if words else ""

    def is_allowed(self, tool: str) -> bool:
        """Say whether a tool is approved for the rest of the run."""
        return tool in self._allowed

    def is_known(self, wait_id: str) -> bool:
        """Say whether it was asked before: nobody has decided yet, or the run has not acted on what was."""
        return wait_id in self._pending or wait_id in self._unused

    def is_settled(self, wait_id: str) -> bool:
        """Say whether somebody decided, or nobody did in time."""
        return wait_id not in self._pending

    def ask(self, wait: Wait, faults: Faults) -> Wait:
        """Enter a wait; one that was carried keeps its times and its group, a decided one its decision."""
        if wait.id in self._unused:
            return wait
        known = self._pending.get(wait.id)
        if known is not None:
            kept = ("asked_at", "deadline", "group", "escalated_from")
            wait = wait.model_copy(update={name: getattr(known.wait, name) for name in kept})
        else:
            # The same call may be asked again after the run was started again: what was decided then is over.
            self._decided.pop(wait.id, None)
        self._pending[wait.id] = _Entry(wait, faults)
        self.on_change()
        return wait

    def check(self, request: DecideRequest, now: datetime) -> None:
        """Refuse a decision that can't be.

        Raises:
            InvalidInputError: It is the second, comes too late, is of no wait, or doesn't fit. Not retryable.
        """
        earlier = self._decided.get(request.wait)
        if earlier is not None and earlier.id == request.id and request.id:
            return
        if earlier is not None:
            raise InvalidInputError(_told_before(earlier))
        entry = self._pending.get(request.wait)
        if entry is None:
            raise InvalidInputError(f"Nothing with the id {request.wait[:64]!r} waits here.{_hint(self._pending)}")
        wait = entry.wait
        if wait.deadline is not None and now >= wait.deadline and not _goes_on(wait):
            raise InvalidInputError(
                f"It came too late: the time for it was over at {wait.deadline:%Y-%m-%d %H:%M:%SZ}."
            )
        _check_form(request, wait)
        self._check_room(request, wait)
        for value in _values(request):
            if entry.faults is None:
                raise InvalidInputError("The run has just continued as new: try again in a moment.")
            faults = entry.faults(value)
            if faults:
                what = "arguments don't" if request.verdict == "approve" else "answer doesn't"
                raise InvalidInputError(f"The {what} fit the schema: {'; '.join(faults[:10])}.")

    def _check_room(self, request: DecideRequest, wait: Wait) -> None:
        """Refuse what the run could not pass on together with the decisions before it."""
        size = _value_bytes(request)
        held = sum(map(_value_bytes, self._unused.values())) + self._entered[wait.conversation]
        if size > _SMALL_BYTES and held + size > MAX_HELD_BYTES:
            raise InvalidInputError(
                f"It takes {size:,} bytes, and the run holds {held:,} bytes of other answers and arguments until "
                f"its next step: at most {MAX_HELD_BYTES:,} together. Shorten it, or put it where a tool can read "
                "it, and give its name."
            )

    def decide(self, request: DecideRequest, now: datetime) -> Decision:
        """Take a decision that `check` has let pass; the same delivered twice is one."""
        earlier = self._decided.get(request.wait)
        if earlier is not None:
            return earlier
        wait = self._pending[request.wait].wait
        decision = self._settle(wait, request, now)
        if request.is_always:
            self._allowed[wait.tool] = None
            others = [entry.wait for entry in self._pending.values() if _is_alike(entry.wait, wait)]
            for other in others:
                self._settle(other, request.model_copy(update={"wait": other.id, "arguments": None}), now)
        self.on_change()
        return decision

    def _settle(self, wait: Wait, request: DecideRequest, now: datetime) -> Decision:
        decision = Decision(
            wait=wait.id,
            outcome=_DONE[request.verdict],
            at=now,
            by=request.by,
            id=request.id,
            tool=wait.tool,
            is_edited=request.arguments is not None,
            is_always=request.is_always,
            reason=request.reason,
        )
        del self._pending[wait.id]
        self._unused[wait.id] = request
        self._remember(decision)
        return decision

    def expire(self, wait_id: str, now: datetime, *, is_final: bool = False) -> bool:
        """Say whether a wait whose time is over ends; else another group is asked now, unless it `is_final`."""
        entry = self._pending[wait_id]
        wait = entry.wait
        if _goes_on(wait) and not is_final:
            until = None if wait.term is None else now + wait.term
            entry.wait = wait.model_copy(
                update={"group": wait.escalate_to, "deadline": until, "escalated_from": wait.group}
            )
            self.on_change()
            return False
        del self._pending[wait_id]
        self._remember(Decision(wait=wait_id, outcome="expired", at=now, tool=wait.tool))
        self.on_change()
        return True

    def find(self, wait_id: str) -> Wait:
        """Return a pending wait as it is now."""
        return self._pending[wait_id].wait

    def take(self, wait_id: str) -> DecideRequest | None:
        """Return a decision for the run to act on, once; None where nobody decided in time."""
        return self._unused.pop(wait_id, None)

    def enter(self, conversation: str, answer: DecideRequest) -> None:
        """Note an answer that the next model call of a conversation records."""
        self._entered[conversation] += _value_bytes(answer)

    def begin_turn(self, conversation: str) -> None:
        """Note that the answers of the turn before are recorded."""
        self._entered.pop(conversation, None)

    def withdraw(self, wait_id: str) -> None:
        """Forget a wait that the run no longer has: it was cancelled."""
        if self._pending.pop(wait_id, None) is not None:
            self.on_change()

    def page(self) -> WaitsPage:
        """Return what is pending, and what was decided lately."""
        shown: list[Wait] = []
        size = 0
        for wait in self.pending:
            size += len(wait.to_bytes())
            if shown and size > _PAGE_BYTES:
                break
            shown.append(wait)
        decided = tuple(self._decided.values())[-_SHOWN_DECISIONS:]
        return WaitsPage(waits=tuple(shown), total=len(self._pending), decided=decided)

    def state(self) -> WaitsState:
        """Return what the run hands to its successor."""
        note_bytes = _CARRIED_NOTES_BYTES // max(len(self._pending), 1)
        return WaitsState(
            pending=tuple(_stub(wait, note_bytes) for wait in self.pending),
            unused=tuple(self._unused.values()),
            decided=tuple(self._decided.values()),
            allowed=tuple(self._allowed),
        )

    def _remember(self, decision: Decision) -> None:
        self._decided[decision.wait] = decision
        if len(self._decided) > _REMEMBERED:
            del self._decided[next(iter(self._decided))]


def _goes_on(wait: Wait) -> bool:
    return wait.on_deadline == "escalate" and wait.escalated_from is None


def _is_alike(other: Wait, decided: Wait) -> bool:
    """Say whether who approved `decided` for the rest of the run was asked for `other` too."""
    return other.kind == "approval" and (other.tool, other.group) == (decided.tool, decided.group)


def _stub(wait: Wait, note_bytes: int) -> Wait:
    empty = {"arguments": "", "reason": "", "question": "", "answer": None, "is_cut": False}
    return wait.model_copy(update={**empty, "note": cut(wait.note, note_bytes)})


def _check_form(request: DecideRequest, wait: Wait) -> None:
    """Refuse what makes no sense, whatever the wait holds."""
    if (request.verdict == "answer") != (wait.kind == "question"):
        right = "answer it" if wait.kind == "question" else "approve or deny it"
        raise InvalidInputError(
            f"{wait.id!r} is {'a question' if wait.kind == 'question' else 'an approval'}: {right}."
        )
    if (request.arguments is not None or request.is_always) and request.verdict != "approve":
        raise InvalidInputError("Arguments, and a decision for the rest of the run, are for approving.")
    if request.is_always and not wait.tool:
        raise InvalidInputError("Only calls of a tool can be approved for the rest of the run.")
    if len(request.reason) > MAX_REASON_CHARS:
        raise InvalidInputError(f"The reason has more than {MAX_REASON_CHARS} characters: shorten it.")
    if _value_bytes(request) > MAX_ARGUMENT_BYTES:
        raise InvalidInputError(f"It takes more than {MAX_ARGUMENT_BYTES} bytes: shorten it.")


def _value_bytes(request: DecideRequest) -> int:
    """Return what an answer, or edited arguments, take at most once encoded."""
    return len(json.dumps([request.arguments, request.answer]))


def _values(request: DecideRequest) -> Iterable[Any]:
    if request.verdict == "answer":
        yield request.answer
    elif request.arguments is not None:
        try:
            yield json.loads(request.arguments)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"The arguments are not JSON: {error}.") from None


def _told_before(earlier: Decision) -> str:
    at = f"{earlier.at:%Y-%m-%d %H:%M:%SZ}"
    if earlier.by is None:
        return f"It came too late: nobody had decided by {at}."
    return f"It was {earlier.outcome} before, by {earlier.by.name} at {at}."


def _hint(pending: Iterable[str]) -> str:
    known = list(pending)
    return f" What waits: {', '.join(known[:10])}{' …' if len(known) > 10 else ''}." if known else ""
