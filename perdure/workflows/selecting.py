"""`select_agent` and `record_outcome`: which agent does a piece of work, and what became of it. Workflow side."""

from collections.abc import Sequence
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

from perdure.contracts.plan import Task
from perdure.contracts.scores import Outcome
from perdure.contracts.selection import Selection, SelectRequest, Strategy
from perdure.contracts.usage import Usage
from perdure.errors import RunCancelled, RunError, RunTerminated
from perdure.workflows import _calls
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host

_MAX_TEXT_CHARS = 8_000
"""Enough to choose by; the rest of a long input says what the work is about, not what it is."""


async def select_agent(
    task: str | Task,
    candidates: Sequence[str] = (),
    *,
    strategy: Strategy = "rules",
    kind: str | None = None,
    tags: Sequence[str] = (),
    capabilities: Sequence[str] = (),
    model: str | None = None,
    cost_weight: float = 1.0,
    seconds_weight: float = 0.0,
) -> Selection:
    """Choose the agent that a piece of work is given to. The choice is recorded, and so is why.

    Whatever the strategy, only agents with all the `capabilities` are candidates. `rules` takes the one whose
    tags and capabilities fit best; `model` has a model choose by the agents' descriptions; `learned` draws by
    what became of earlier work of that kind, so that who does well is chosen most and the others are still tried.
    When the model's answer can't be used, or the scoreboard can't be reached within a second, `rules` chooses,
    and the `note` says so.

    Args:
        task: What is to be done: a text, or the task of a plan.
        candidates: Names of agents, the preferred first; all of the app when empty.
        strategy: How to choose.
        kind: What sort of work it is, for comparing agents; the task's own when None.
        tags: What the agent had better have among its tags.
        capabilities: What the agent must have.
        model: For `model`: `provider:model`; the first candidate's own when None.
        cost_weight: For `learned`: what a dollar counts, in probability of success. At 1, an agent that costs 10
            cents more must succeed 10 times more in 100.
        seconds_weight: For `learned`: what a second counts, likewise.

    Returns:
        The agent and why. To have the outcome counted, give the kind to `run_agent` as well.

    Raises:
        UnknownAgentError: A candidate isn't there. Not retryable.
        NoCandidateError: No candidate has the capabilities. Not retryable.
    """
    text, own_kind = (task, "") if isinstance(task, str) else (task.input, task.kind)
    return await choose(
        SelectRequest(
            text=text[:_MAX_TEXT_CHARS],
            candidates=tuple(candidates),
            strategy=strategy,
            kind=own_kind if kind is None else kind,
            tags=tuple(tags),
            capabilities=tuple(capabilities),
            model=model,
            cost_weight=cost_weight,
            seconds_weight=seconds_weight,
        )
    )


async def choose(request: SelectRequest) -> Selection:
    """Do what `select_agent` does. Raises what it does."""
    with typed_activity_failure():
        return await _calls.select_agent(request)


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
    """
    current_host().outcomes.add(
        Outcome(agent=agent, kind=kind, is_success=is_success, score=score, cost_usd=cost_usd, seconds=seconds)
    )


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
        current_host().outcomes.add(Outcome(agent=agent, kind=kind, is_success=False, seconds=_seconds(since)))


def _seconds(since: datetime) -> float:
    return max((workflow.now() - since).total_seconds(), 0.0)
