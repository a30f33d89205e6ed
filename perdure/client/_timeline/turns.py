"""Calls put into turns, and turns of agents that ran in the caller's history into theirs. Client side; pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from perdure.client._timeline.book import StepBook, TurnKey
from perdure.client._timeline.data import Step
from perdure.contracts.usage import Usage


def assembled(book: StepBook, *, before: int, is_agent: bool) -> tuple[Step, ...]:
    """Return the steps of a run in order, with its calls inside of turns.

    Args:
        book: The steps.
        before: How many turns the runs before had taken.
        is_agent: The run is an agent's own; else each conversation is of an agent that ran inside of it.
    """
    calls: dict[TurnKey, list[Step]] = {}
    loose: list[Step] = []
    for event_id, step in book.steps.items():
        key = book.turns.get(event_id)
        if key is None:
            loose.append(step)
        else:
            calls.setdefault(key, []).append(step)
    turns: dict[str, list[Step]] = {}
    for key, members in calls.items():
        taken = turns.setdefault(key[0], [])
        taken.append(_turn(in_order(members), before + len(taken) + 1 if is_agent else len(taken) + 1))
    for conversation, taken in turns.items():
        loose.extend(taken if is_agent else [_agent(conversation, taken)])
    return in_order(loose)


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps in the order of their start."""
    return tuple(sorted(steps, key=lambda step: (step.started_at, step.event_id)))


def total_usage(steps: Iterable[Step]) -> Usage | None:
    """Return what steps have used together; None where none of them used anything."""
    total: Usage | None = None
    for step in steps:
        if step.usage is not None:
            total = step.usage if total is None else total + step.usage
    return total


def _turn(calls: Sequence[Step], number: int) -> Step:
    asked = [call for call in calls if call.kind == "model"]
    last = asked[-1] if asked else calls[-1]
    return Step(
        kind="turn",
        name=f"turn {number}",
        number=number,
        started_at=calls[0].started_at,
        ended_at=_end(calls),
        outcome=last.outcome if asked else "ok",
        failure=last.failure if last.outcome != "ok" else "",
        event_id=calls[0].event_id,
        agent=last.agent,
        model=last.model,
        usage=total_usage(asked),
        is_saved=last.is_saved,
        problem=last.problem,
        slot=last.slot,
        steps=tuple(calls),
    )


def _agent(conversation: str, turns: Sequence[Step]) -> Step:
    return Step(
        kind="agent",
        name=conversation,
        started_at=turns[0].started_at,
        ended_at=_end(turns),
        outcome=turns[-1].outcome,
        event_id=turns[0].event_id,
        agent=turns[-1].agent,
        usage=total_usage(turns),
        steps=tuple(turns),
    )


def _end(steps: Sequence[Step]) -> datetime | None:
    """Return when the last of them ended; None while one is open."""
    ends = [step.ended_at for step in steps]
    return None if None in ends else max(end for end in ends if end is not None)
