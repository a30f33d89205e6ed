"""`select_agent` and `record_outcome`: which agent does a piece of work, and what became of it. Workflow side."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

from perdure.contracts._base import Contract
from perdure.contracts.plan import Task
from perdure.contracts.scores import Outcome
from perdure.contracts.selection import SelectBy, Selection, SelectRequest, Strategy
from perdure.contracts.texts import one_line
from perdure.contracts.usage import Usage
from perdure.errors import InvalidInputError, RunCancelled, RunError, RunTerminated
from perdure.workflows import _calls
from perdure.workflows._bills import note_choice
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host
from perdure.workflows._paid_choice import choose_on

_PAID_PATCH = "perdure.paid-choice"
"""Runs of before there was this have models choose beyond their limits, and on nobody's bill."""
T = TypeVar("T", bound=Contract)

_MAX_TEXT_CHARS = 8_000
"""Enough to choose by; the rest of a long input says what the work is about, not what it is."""


async def select_agent(
    task: str | Task,
    candidates: Sequence[str] = (),
    *,
    strategy: Strategy | None = None,
    kind: str | None = None,
    tags: Sequence[str] | None = None,
    capabilities: Sequence[str] | None = None,
    model: str | None = None,
    cost_weight: float | None = None,
    seconds_weight: float | None = None,
) -> Selection:
    """Choose the agent that a piece of work is given to. The choice is recorded, and so is why.

    Whatever the strategy, only agents with all the `capabilities` are candidates. `rules` takes the one whose tags
    and capabilities fit best; `model` has a model choose by the agents' descriptions; `learned` draws by earlier
    outcomes of that kind of work, so that who does well is chosen most and the others are still tried. When the
    model's answer can't be used, or a limit of the workflow leaves no room to ask it, or the scoreboard can't be
    reached within a second, `rules` chooses, and the `note` says so.

    Args:
        task: What is to be done: a text, or the task of a plan. What isn't given below is as the task says.
        candidates: Names of agents, the preferred first; all of the app when empty.
        strategy: How to choose; `rules` when nothing says otherwise.
        kind: What sort of work it is, for comparing agents.
        tags: What the agent had better have among its tags.
        capabilities: What the agent must have.
        model: For `model`: `provider:model`; the first candidate's own when None.
        cost_weight: For `learned`: what a dollar counts, in probability of success. At 1, the default, an agent
            that costs 10 cents more must succeed 10 times more in 100.
        seconds_weight: For `learned`: what a second counts, likewise; 0 by default.

    Returns:
        The agent and why. To have the outcome counted, give the kind to `run_agent` as well.

    Raises:
        UnknownAgentError: A candidate isn't there. Not retryable.
        NoCandidateError: No candidate has the capabilities. Not retryable.
        InvalidInputError: An option can't be used. Not retryable.
    """
    base = request_of(task, task.input) if isinstance(task, Task) else SelectRequest(text=task[:_MAX_TEXT_CHARS])
    given = {
        "candidates": candidates or None,
        "strategy": strategy,
        "kind": kind,
        "tags": tags,
        "capabilities": capabilities,
        "model": model,
        "cost_weight": cost_weight,
        "seconds_weight": seconds_weight,
    }
    fields = {name: getattr(base, name) for name in SelectRequest.model_fields}
    changed = {name: value for name, value in given.items() if value is not None}
    return await choose(_valid(SelectRequest, {**fields, **changed}))


def request_of(task: Task, text: str) -> SelectRequest:
    """Return what is asked for a task of a plan, whose input is `text`."""
    by = task.select or SelectBy()
    return SelectRequest(
        text=text[:_MAX_TEXT_CHARS],
        candidates=task.candidates,
        kind=task.kind,
        **{name: getattr(by, name) for name in SelectBy.model_fields},
    )


async def choose(request: SelectRequest) -> Selection:
    """Do what `select_agent` does. Raises what it does."""
    with typed_activity_failure():
        if request.strategy != "model" or not workflow.patched(_PAID_PATCH):
            return await _calls.select_agent(request)
        account = current_host().funds.account
        chosen = await (_calls.select_agent(request) if account is None else choose_on(account, request))
        await note_choice(chosen)
        return chosen


def told(selection: Selection) -> str:
    """Return how an agent was chosen, in a line."""
    note = f"; {selection.note}" if selection.note else ""
    return one_line(f"{selection.strategy}: {selection.why}{note}")


def record_outcome(
    agent: str,
    *,
    kind: str = "",
    is_success: bool | None = None,
    score: float | None = None,
    cost_usd: float | None = None,
    seconds: float | None = None,
) -> None:
    """Tell the scoreboard what became of work, or what it was worth; nothing is waited for.

    `run_agent(…, kind=…)` and plans tell of their runs themselves: this is for a score that is known later, and
    for work that was done otherwise. Outcomes leave in batches, the last at the workflow's end.

    Args:
        agent: Who did it.
        kind: What sort of work it was.
        is_success: Whether it was done; None when that was told before.
        score: How good it was, 0 to 1.
        cost_usd: What it cost; None when that isn't known.
        seconds: How long it took.

    Raises:
        InvalidInputError: A number is out of range. Not retryable.
    """
    told = {"agent": agent, "kind": kind, "is_success": is_success}
    measured = {"score": score, "cost_usd": cost_usd, "seconds": seconds}
    current_host().outcomes.add(_valid(Outcome, {**told, **measured}))


def note_success(
    agent: str, kind: str, usage: Usage, since: datetime, *, model: str = "", score: float | None = None
) -> None:
    """Note that an agent's run completed."""
    current_host().outcomes.add(
        Outcome(
            agent=agent,
            kind=kind,
            model=model,
            is_success=True,
            score=score,
            cost_usd=None if usage.cost_usd is None else float(usage.cost_usd),
            seconds=_seconds(since),
        )
    )


def note_failure(agent: str, kind: str, error: BaseException, since: datetime) -> None:
    """Note that an agent's run failed, if that says anything of the agent.

    Being cancelled or terminated doesn't, and neither does a mistake of whoever started it.
    """
    is_agents = isinstance(error, RunError) and not isinstance(error, RunCancelled | RunTerminated)
    if is_agents and not is_cancelled_exception(error):
        cost = error.attributes.get("cost_usd") if isinstance(error, RunError) else None
        current_host().outcomes.add(
            Outcome(
                agent=agent,
                kind=kind,
                is_success=False,
                cost_usd=cost if isinstance(cost, float) else None,
                seconds=_seconds(since),
            )
        )


def _valid(cls: type[T], fields: Mapping[str, Any]) -> T:
    try:
        return cls.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def _seconds(since: datetime) -> float:
    return max((workflow.now() - since).total_seconds(), 0.0)
