"""What perdure keeps for each workflow that uses it: names in call order, inline conversations. Workflow side.

It hangs on the workflow's own instance, so that replay makes it anew, and it answers perdure's queries for
workflows of the user's own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from temporalio import workflow

from perdure.contracts.names import MESSAGES_QUERY, PLAN_QUERY, SPEC_QUERY
from perdure.contracts.plan import PlanStatus
from perdure.contracts.rerun import FindEarlierResult
from perdure.contracts.run import EarlierRun, MessagesPage, MessagesQuery
from perdure.contracts.spec import AgentSpec
from perdure.errors import UserError
from perdure.workflows._calls import find_earlier
from perdure.workflows._conversation import Conversation
from perdure.workflows._outcomes import Outbox

_ATTRIBUTE = "_perdure_host"


class Reset:
    """Whether the run was reset, and that was not looked into yet."""

    def __init__(self) -> None:
        """It wasn't."""
        self.is_new = False

    def note(self, _: int) -> None:
        """It was. Called outside of the workflow's event loop, where exceptions are lost."""
        self.is_new = True


class Host:
    """State of perdure in one workflow.

    Attributes:
        depth: How many runs of agents are above what this workflow starts.
        reset: Whether the run was reset.
        first_run_id: First run of the chain that idempotency keys belong to; empty for the workflow's own.
        outcomes: What the scoreboard is to be told.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.depth = 0
        self.first_run_id = ""
        self._earlier: dict[str, list[EarlierRun]] = {}
        self.reset = Reset()
        self._finding: asyncio.Task[FindEarlierResult] | None = None
        self.outcomes = Outbox()
        self._numbers: Counter[str] = Counter()
        self._conversations: dict[str, Conversation] = {}
        self._specs: dict[str, AgentSpec] = {}
        self._plans: list[Callable[[], PlanStatus]] = []

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
            self.note_earlier(finding.result().runs)

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

    def add(self, spec: AgentSpec, conversation: Conversation) -> None:
        """Answer queries for these."""
        self._specs[spec.digest] = spec
        self._conversations[conversation.name] = conversation

    def add_plan(self, status: Callable[[], PlanStatus]) -> None:
        """Answer queries for the workflow's next plan."""
        self._plans.append(status)

    def plan(self, number: int = 0) -> PlanStatus | None:
        """Answer `perdure.plan`: of the plan of that number, from 1; of the latest when it is 0."""
        if not 0 <= number <= len(self._plans) or not self._plans:
            return None
        return self._plans[number - 1]()

    def messages(self, query: MessagesQuery) -> MessagesPage:
        """Answer `perdure.messages`."""
        found = self._conversations.get(query.conversation)
        if found is None or query.epoch not in (None, found.epoch):
            raise UserError(f"This run has no conversation {query.conversation!r} of epoch {query.epoch}.")
        return found.page(query)

    def spec(self, digest: str = "") -> AgentSpec | None:
        """Answer `perdure.spec`."""
        return self._specs.get(digest)


def current_host() -> Host:
    """Return the host of the workflow that runs."""
    instance = workflow.instance()
    host: Host | None = getattr(instance, _ATTRIBUTE, None)
    if host is None:
        host = Host()
        setattr(instance, _ATTRIBUTE, host)
    return host


def answer_queries() -> None:
    """Register perdure's queries, unless the workflow has its own."""
    host = current_host()
    handlers: dict[str, Callable[..., object]] = {
        MESSAGES_QUERY: host.messages,
        SPEC_QUERY: host.spec,
        PLAN_QUERY: host.plan,
    }
    for name, handler in handlers.items():
        if workflow.get_query_handler(name) is None:
            workflow.set_query_handler(name, handler)
