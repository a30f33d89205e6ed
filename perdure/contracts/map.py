"""An agent over many items: what goes in, what comes out, and where it stands. Both sides."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.budget import Amount, Lease
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart
from perdure.contracts.run import EarlierRun
from perdure.contracts.usage import NO_USAGE, Usage

OnError = Literal["fail", "collect"]
MapItem = str | tuple[ContentPart, ...]

MAX_MAP_ITEMS = 20_000
"""More would be too many children for the node at the top."""
MAX_MAP_INPUT_BYTES = 1_500_000
"""Items that a run can be started with; Temporal's limit is 2 MiB for a payload."""


class MapInput(Contract):
    """Run an agent on each of many items."""

    agent: str
    items: tuple[MapItem, ...] = ()
    max_parallel: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Runs of the agent at once, over the whole tree."""
    on_error: OnError = "fail"
    limits: Limits = Limits()
    """Of each run, over the agent's own."""
    context: dict[str, JsonValue] | None = None
    tenant: str = ""
    depth: int = 0
    """How many runs of agents are above these."""


class MapSlice(Contract):
    """Some of the items of a map, for a node of its tree."""

    map: MapInput
    """With these items alone; `max_parallel` is the node's share."""
    start: int
    """Index of the first item in the whole."""
    prefix: str
    """What the workflow ids of the items' runs begin with."""
    earlier: tuple[EarlierRun, ...] = ()
    """Nodes of before that had some of the items, where the map was started again."""
    lease: Lease | None = None
    """Set where the map has a limit of money or tokens: the node's part of that."""
    attributes: dict[str, str] | None = None
    """The search attributes that the items' runs are started with."""


class MapFailure(Contract):
    """Why an item has no output."""

    type: str
    message: str
    attributes: dict[str, JsonValue] | None = None


class MapOutcome(Contract):
    """What became of an item."""

    index: int
    output: JsonValue = None
    """Text, or the JSON of the agent's output type."""
    failure: MapFailure | None = None


class MapPage(Contract):
    """What became of the items of a node, or where to read it."""

    workflow_id: str
    """The node's run: its history holds every output, recorded once."""
    run_id: str
    start: int
    count: int
    """How many items it took; those after them are for another node."""
    failed: int = 0
    size: int = 0
    """Bytes of all outcomes."""
    usage: Usage = NO_USAGE
    settled: Amount | None = None
    """What the node's runs took of the map's budget; None where it has no lease."""
    outcomes: tuple[MapOutcome, ...] = ()
    """All of them when they are few bytes; otherwise the failures, and the outputs stay where they are."""

    @property
    def is_whole(self) -> bool:
        """Say whether every outcome is here."""
        return len(self.outcomes) == self.count

    def shortened(self) -> "MapPage":
        """Return the page without its outcomes."""
        return self.model_copy(update={"outcomes": ()})


class MapResult(Contract):
    """The outcome of a map: outcomes in order, or a manifest of the pages that have them."""

    agent: str
    total: int
    failed: int = 0
    usage: Usage = NO_USAGE
    outcomes: tuple[MapOutcome, ...] = ()
    pages: tuple[MapPage, ...] = ()
    """Set where the outcomes take more than a result may hold."""


class MapProgress(Contract):
    """Where a map stands; the answer to the query `perdure.map`."""

    total: int = 0
    done: int = 0
    """Items that have an output."""
    failed: int = 0
    running: int = 0
    nodes: tuple[str, ...] = ()
    """Workflow ids of the nodes at work, whose items count here only when the node ends."""


class ReadPageRequest(Contract):
    """Read outcomes of a closed node, from item `start` of the whole on."""

    workflow_id: str
    run_id: str
    start: int


class ReadPageResult(Contract):
    """Consecutive outcomes: as many as fit into 1 MB, but at least one."""

    outcomes: tuple[MapOutcome, ...] = ()
