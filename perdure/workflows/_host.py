"""What perdure keeps for each workflow that uses it: names in call order, inline conversations. Workflow side.

It hangs on the workflow's own instance, so that replay makes it anew, and it answers perdure's queries for
workflows of the user's own.
"""

from collections import Counter
from collections.abc import Callable

from temporalio import workflow

from perdure.contracts.names import MESSAGES_QUERY, PLAN_QUERY, SPEC_QUERY
from perdure.contracts.plan import PlanStatus
from perdure.contracts.run import MessagesPage, MessagesQuery
from perdure.contracts.spec import AgentSpec
from perdure.errors import UserError
from perdure.workflows._conversation import Conversation
from perdure.workflows._outcomes import Outbox

_ATTRIBUTE = "_perdure_host"


class Host:
    """State of perdure in one workflow.

    Attributes:
        depth: How many runs of agents are above what this workflow starts.
        outcomes: What the scoreboard is to be told.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.depth = 0
        self.outcomes = Outbox()
        self._numbers: Counter[str] = Counter()
        self._conversations: dict[str, Conversation] = {}
        self._specs: dict[str, AgentSpec] = {}
        self._plans: list[Callable[[], PlanStatus]] = []

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
