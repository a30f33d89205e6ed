"""What perdure keeps for each workflow that uses it: names in call order, inline conversations. Workflow side.

It hangs on the workflow's own instance, so that replay makes it anew, and it answers perdure's queries for
workflows of the user's own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from temporalio import workflow

from perdure.contracts.bill import Bill
from perdure.contracts.names import (
    AMEND_PLAN_UPDATE,
    ARTIFACT_QUERY,
    DECIDE_UPDATE,
    LEASE_ANSWER_SIGNAL,
    LEASE_SIGNAL,
    LIMIT_UPDATE,
    MESSAGES_QUERY,
    MONEY_QUERY,
    PAUSE_SIGNAL,
    PLAN_QUERY,
    RETRY_TASK_UPDATE,
    SPEC_QUERY,
    WAITS_QUERY,
)
from perdure.contracts.plan import (
    AmendPlanRequest,
    ArtifactQuery,
    ArtifactValue,
    PlanAmendment,
    PlanStatus,
    RetryTaskRequest,
)
from perdure.contracts.rerun import FindEarlierResult
from perdure.contracts.run import EarlierRun, MessagesPage, MessagesQuery
from perdure.contracts.spec import AgentSpec
from perdure.contracts.waits import DecideRequest, Decision, WaitsPage
from perdure.errors import InvalidInputError, UserError
from perdure.workflows._calls import find_earlier
from perdure.workflows._conversation import Conversation
from perdure.workflows._details import ChildRuns
from perdure.workflows._funds import Funds
from perdure.workflows._outcomes import Outbox
from perdure.workflows._pause import Pause
from perdure.workflows._trace import RunTrace
from perdure.workflows._waits import WaitBook

_ATTRIBUTE = "_perdure_host"
_AGAIN_PATCH = "perdure.reset-again"
"""Runs that were reset twice before there was this went on from what the first of the two had."""
_PLAN_WAIT = timedelta(seconds=20)
"""For a plan that is about to be there: an update may come with the first workflow task."""


class SteeredPlan(Protocol):
    """A plan at work, as those outside see it. What can't be done raises a UserError."""

    def status(self) -> PlanStatus:
        """Return how it stands."""
        ...

    def artifact(self, name: str) -> ArtifactValue | None:
        """Return an artifact, or where it is; None while there is none."""
        ...

    def check_amendment(self, amendment: PlanAmendment) -> None:
        """Raise what keeps an amendment from being applied, as far as that is known at once."""
        ...

    async def amend(self, amendment: PlanAmendment) -> None:
        """Change it."""
        ...

    def check_retry(self, name: str) -> None:
        """Raise what keeps a task from being run again."""
        ...

    def retry(self, name: str) -> None:
        """Run a task again."""
        ...


class Reset:
    """How often the run was reset, and whether that was not looked into yet."""

    def __init__(self) -> None:
        """It wasn't."""
        self.is_new = False
        self.number = 0

    @property
    def has_happened(self) -> bool:
        """Whether it was reset at all."""
        return self.number > 0

    def note(self, _: int) -> None:
        """It was. Called outside of the workflow's event loop, where exceptions are lost."""
        self.is_new = True
        self.number += 1


class Host:
    """State of perdure in one workflow.

    Attributes:
        depth: How many runs of agents are above what this workflow starts.
        reset: Whether the run was reset.
        first_run_id: First run of the chain that idempotency keys belong to; empty for the workflow's own.
        outcomes: What the scoreboard is to be told.
        funds: What it may spend.
        bill: What it paid itself.
        known_attributes: The search attributes of perdure's that the server has, once an inline agent has asked.
        tenant: Who it is for, and so what it starts.
        waits: What it waits for people for.
        shows_state: Whether that is, or is not to be, shown to whoever lists runs.
        pause: Whether it is paused, and all that is below it.
        trace: The span of the run, on a worker that traces.
        child_runs: What the web UI shows of its child runs.
        details: Returns all that the web UI shows of it, where the workflow has set nothing itself.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.depth = 0
        self.first_run_id = ""
        self._earlier: dict[str, list[EarlierRun]] = {}
        self._found_runs: frozenset[EarlierRun] = frozenset()
        self.reset = Reset()
        self._finding: asyncio.Task[FindEarlierResult] | None = None
        self.outcomes = Outbox()
        self.funds = Funds()
        self.bill = Bill()
        self.known_attributes: tuple[str, ...] = ()
        self.tenant = ""
        self.waits = WaitBook()
        self.shows_state = False
        self.pause = Pause()
        self.trace: RunTrace | None = None
        self.child_runs = ChildRuns()
        self.details: Callable[[], str] = self.child_runs.details
        self._numbers: Counter[str] = Counter()
        self._conversations: dict[str, Conversation] = {}
        self._specs: dict[str, AgentSpec] = {}
        self._plans: list[SteeredPlan] = []

    async def find_earlier(self) -> None:
        """Look for child runs of before a reset, once."""
        if self.reset.is_new:
            self.reset.is_new = False
            self._finding = asyncio.create_task(find_earlier())
            self._finding.add_done_callback(self._found)
        if self._finding is not None:
            await asyncio.shield(self._finding)

    def _found(self, finding: "asyncio.Task[FindEarlierResult]") -> None:
        self._finding = None
        if not finding.cancelled() and finding.exception() is None:
            self.note_earlier(self._fresh(finding.result().runs))
            self.funds.note_spent(finding.result().spent)

    def _fresh(self, runs: Sequence[EarlierRun]) -> Sequence[EarlierRun]:
        """Return what wasn't known, of a run that was reset before; what was known of these ids is forgotten."""
        known, self._found_runs = self._found_runs, self._found_runs | set(runs)
        if not known or not workflow.patched(_AGAIN_PATCH):
            return runs
        fresh = [run for run in runs if run not in known]
        for run in fresh:
            self._earlier.pop(run.workflow_id, None)
        return fresh

    async def know_earlier(self) -> int:
        """Look for child runs of before, and return how many resets are looked into then."""
        await self.find_earlier()
        while (self.reset.is_new or self._finding is not None) and workflow.patched(_AGAIN_PATCH):
            await self.find_earlier()
        return self.reset.number

    def is_reset_since(self, number: int) -> bool:
        """Say whether the run was reset once more than so often: there may be later child runs."""
        return self.reset.number > number and workflow.patched(_AGAIN_PATCH)

    def note_earlier(self, runs: Iterable[EarlierRun]) -> None:
        """Remember child runs of before: their work is kept."""
        for run in runs:
            self._earlier.setdefault(run.workflow_id, []).append(run)

    def take_earlier(self, workflow_id: str) -> EarlierRun | None:
        """Return the first child run of before of that id which was not taken."""
        runs = self._earlier.get(workflow_id)
        return runs.pop(0) if runs else None

    def earlier_under(self, prefix: str) -> list[EarlierRun]:
        """Return the child runs of before whose ids begin with `prefix`."""
        return [run for name, runs in self._earlier.items() if name.startswith(prefix) for run in runs]

    def number(self, name: str) -> int:
        """Return how often this was asked for `name`, from 1."""
        self._numbers[name] += 1
        return self._numbers[name]

    def skip(self, name: str, number: int) -> None:
        """Begin behind `number`, where numbers of `name` are asked for next: it is in use."""
        self._numbers[name] = max(self._numbers[name], number)

    def add(self, spec: AgentSpec, conversation: Conversation) -> None:
        """Answer queries for these."""
        self._specs[spec.digest] = spec
        self._conversations[conversation.name] = conversation

    def add_plan(self, plan: SteeredPlan) -> None:
        """Answer queries and updates for the workflow's next plan."""
        self._plans.append(plan)

    def plan(self, number: int = 0) -> PlanStatus | None:
        """Answer `perdure.plan`: of the plan of that number, from 1; of the latest when it is 0."""
        found = self._find_plan(number)
        return None if found is None else found.status()

    def _find_plan(self, number: int) -> SteeredPlan | None:
        if not 0 <= number <= len(self._plans) or not self._plans:
            return None
        return self._plans[number - 1]

    def artifact(self, query: ArtifactQuery) -> ArtifactValue:
        """Answer `perdure.artifact`."""
        plan = self._find_plan(query.plan)
        found = None if plan is None else plan.artifact(query.name)
        if found is None:
            raise UserError(f"Plan {query.plan} of this run has no artifact {query.name!r}.")
        return found

    def check_amendment(self, request: AmendPlanRequest) -> None:
        """Refuse an amendment; nothing of it is in history then. Before there is a plan, all are let in."""
        plan = self._find_plan(request.number)
        if plan is not None:
            plan.check_amendment(request.amendment)

    async def amend(self, request: AmendPlanRequest) -> PlanStatus:
        """Do the update `perdure.amend_plan`."""
        plan = await self._await_plan(request.number)
        await plan.amend(request.amendment)
        return plan.status()

    def check_retry(self, request: RetryTaskRequest) -> None:
        """Refuse to run a task again; before there is a plan, all are let in."""
        plan = self._find_plan(request.number)
        if plan is not None:
            plan.check_retry(request.task)

    async def retry(self, request: RetryTaskRequest) -> PlanStatus:
        """Do the update `perdure.retry_task`."""
        plan = await self._await_plan(request.number)
        plan.retry(request.task)
        return plan.status()

    async def _await_plan(self, number: int) -> SteeredPlan:
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._find_plan(number) is not None, timeout=_PLAN_WAIT)
        plan = self._find_plan(number)
        if plan is None:
            raise InvalidInputError("This run has no such plan, or its planner is still at work.")
        return plan

    def messages(self, query: MessagesQuery) -> MessagesPage:
        """Answer `perdure.messages`."""
        found = self._conversations.get(query.conversation)
        if found is None or query.epoch not in (None, found.epoch):
            raise UserError(f"This run has no conversation {query.conversation!r} of epoch {query.epoch}.")
        return found.page(query)

    def spec(self, digest: str = "") -> AgentSpec | None:
        """Answer `perdure.spec`."""
        return self._specs.get(digest)

    def waits_page(self) -> WaitsPage:
        """Answer `perdure.waits`."""
        return self.waits.page()

    def check_decision(self, request: DecideRequest) -> None:
        """Refuse a decision; nothing of it is in history then."""
        self.waits.check(request, workflow.now())

    def decide(self, request: DecideRequest) -> Decision:
        """Do the update `perdure.decide`."""
        return self.waits.decide(request, workflow.now())


def current_host() -> Host:
    """Return the host of the workflow that runs."""
    instance = workflow.instance()
    host: Host | None = getattr(instance, _ATTRIBUTE, None)
    if host is None:
        host = Host()
        setattr(instance, _ATTRIBUTE, host)
    return host


def answer_outside() -> None:
    """Register perdure's queries, updates and signals, unless the workflow has its own."""
    host = current_host()
    handlers: dict[str, Callable[..., object]] = {
        MESSAGES_QUERY: host.messages,
        SPEC_QUERY: host.spec,
        PLAN_QUERY: host.plan,
        ARTIFACT_QUERY: host.artifact,
        MONEY_QUERY: host.funds.status,
        WAITS_QUERY: host.waits_page,
    }
    for name, handler in handlers.items():
        if workflow.get_query_handler(name) is None:
            workflow.set_query_handler(name, handler)
    if workflow.get_signal_handler(PAUSE_SIGNAL) is None:
        workflow.set_signal_handler(PAUSE_SIGNAL, host.pause.hear)
    updates: dict[str, tuple[Callable[..., object], Callable[..., None]]] = {
        AMEND_PLAN_UPDATE: (host.amend, host.check_amendment),
        RETRY_TASK_UPDATE: (host.retry, host.check_retry),
        LIMIT_UPDATE: (host.funds.set_limits, host.funds.check_limits),
        DECIDE_UPDATE: (host.decide, host.check_decision),
    }
    for name, (handler, validator) in updates.items():
        if workflow.get_update_handler(name) is None:
            workflow.set_update_handler(name, handler, validator=validator)
    signals = {LEASE_SIGNAL: host.funds.hear_from_child, LEASE_ANSWER_SIGNAL: host.funds.hear_from_parent}
    for name, hear in signals.items():
        if workflow.get_signal_handler(name) is None:
            workflow.set_signal_handler(name, hear)
