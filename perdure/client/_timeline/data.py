"""What a run did and when: the data. Client side; read by `read.py`, drawn by `trace` and `report`."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from perdure.contracts.plan import Plan
from perdure.contracts.run import Counters
from perdure.contracts.usage import Usage


class Step(BaseModel):
    """Something that a run did, or waited for.

    Kinds and outcomes are text, since histories hold what this version may not know.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    """`turn` (its steps are the calls), `model`, `tool`, `child`, `agent` (one that ran in the caller's history),
    `activity`, `timer`, `wait`, `signal`, `sent` (a signal to another run), `update`, `nexus`, `cancel`, `task`
    (a workflow task that failed), `continued`, `rerun`."""
    name: str
    """A tool, a model, the end of a child's workflow id, an activity type, a signal …"""
    label: str = ""
    """In words, as Temporal's web UI has it; empty where nobody said."""
    started_at: datetime
    ended_at: datetime | None = None
    """None while it is open, and where the run ended first."""
    outcome: str = "open"
    """`ok`, `failed`, `timed_out`, `canceled`, `terminated`, `open`, or `cut` where the run ended first. A tool's
    result is also `error`, `unknown` or `denied`."""
    failure: str = ""
    """Why it failed, or why its last attempt but one did."""
    attempts: int = 1
    tried_at: datetime | None = None
    """When the last attempt began; before it lie the wait for a worker, and attempts that failed."""
    worker: str = ""
    event_id: int = 0
    number: int = 0
    """Of a turn, from 1, over the whole chain of runs."""
    agent: str = ""
    model: str = ""
    usage: Usage | None = None
    """Of a model call, or of all in a turn; of a choice that a model made; of a child run, its own as far as its
    result tells."""
    is_saved: bool = False
    """Another call's result answered it."""
    problem: str = ""
    """Why a model's reply could not be used."""
    slot: int | None = None
    """The slot of the conversation that its result fills."""
    workflow_id: str = ""
    """Of a child run, or the run that a signal went to."""
    run_id: str = ""
    workflow: str = ""
    steps: "tuple[Step, ...]" = ()
    below: "Timeline | None" = None
    """What a child run did, where it was read."""

    @property
    def is_bad(self) -> bool:
        """Say whether it went wrong."""
        return self.outcome not in ("ok", "open", "cut", "waiting") or bool(self.problem)

    def took(self, until: datetime) -> timedelta:
        """Return how long it took; of one without an end, how long until then."""
        return max((self.ended_at or until) - self.started_at, timedelta(0))


class ChainLink(BaseModel):
    """One of the runs of a chain: after Continue-As-New, or when it was started again."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    started_at: datetime
    closed_at: datetime | None = None
    events: int
    outcome: str
    """As of a step; `continued` where another run goes on."""


class Timeline(BaseModel):
    """A run from its first event to its last, over all runs of its chain, from Event History alone."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    """Of the last run of the chain."""
    workflow: str
    agent: str = ""
    status: str
    summary: str = ""
    task_queue: str = ""
    started_at: datetime
    closed_at: datetime | None = None
    failure: str = ""
    links: tuple[ChainLink, ...] = ()
    """The runs of the chain, in order."""
    before: Counters | None = None
    """What runs of the chain had used that aren't in `links`: the server no longer has them."""
    steps: tuple[Step, ...] = ()
    plan: Plan | None = None
    """The plan that it executes, where an input or a planner has it; of several, the first."""
    unread: int = 0
    """Events whose content could not be decoded; they are here without it."""
    read_at: datetime
    """What is open is as of then."""

    @property
    def end(self) -> datetime:
        """When it was over, or was read."""
        return self.closed_at or self.read_at
