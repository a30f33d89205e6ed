"""What a run and those below it have used, by agent, model and tool. Client side; pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from perdure.client._timeline.data import Step, Timeline
from perdure.contracts.run import Counters
from perdure.contracts.usage import NO_USAGE, Usage

_CALLS = ("model", "tool")


class Sum(BaseModel):
    """What some steps have used together."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The agent, model or tool."""
    calls: int = 0
    bad: int = 0
    """Calls that failed, replies that couldn't be used, results that were errors."""
    retries: int = 0
    took: timedelta = timedelta(0)
    """The times of the calls added up, also of those at the same time."""
    usage: Usage = NO_USAGE

    def plus(self, step: Step, until: datetime) -> "Sum":
        """Return the sum with one more call."""
        return Sum(
            name=self.name,
            calls=self.calls + 1,
            bad=self.bad + step.is_bad,
            retries=self.retries + step.attempts - 1,
            took=self.took + step.took(until),
            usage=self.usage + (step.usage or NO_USAGE),
        )


class Totals(BaseModel):
    """What a run has used, and what with the runs below it."""

    model_config = ConfigDict(frozen=True)

    own: Counters
    """Of the run itself, over its whole chain."""
    tree: Usage
    """Of the run and all below it, as far as that is known."""
    runs: int = 0
    """Child runs, at any depth, as far as they were read."""
    is_partial: bool = False
    """Runs below it were not read, and their results don't tell all: `tree` is the least that it can be."""
    waited: timedelta = timedelta(0)
    """How long the run itself waited for people or limits."""
    agents: tuple[Sum, ...] = ()
    """The dearest first. Here, and of models: of calls that were read, and of child runs that were not."""
    models: tuple[Sum, ...] = ()
    tools: tuple[Sum, ...] = ()


def totals(timeline: Timeline) -> Totals:
    """Add up what a run has used."""
    adder = _Adder()
    adder.add(timeline)
    before = timeline.before or Counters()
    own = [step for step in calls_of(timeline.steps) if step.kind in _CALLS]
    asked = [step for step in own if step.kind == "model"]
    answered = [step for step in asked if step.usage is not None]
    tools = [step for step in own if step.kind == "tool"]
    usage = before.usage
    for step in (*answered, *filter(_is_choice, calls_of(timeline.steps))):
        usage = usage + (step.usage or NO_USAGE)
    counters = before.model_copy(
        update={
            "turns": before.turns + len(answered),
            "model_calls": before.model_calls + len(answered),
            "tool_calls": before.tool_calls + len(tools),
            "usage": usage,
            "saved_tool_calls": before.saved_tool_calls + sum(step.is_saved for step in tools),
            "saved_model_calls": before.saved_model_calls + sum(step.is_saved for step in answered),
        }
    )
    waits = (step.took(timeline.end) for step in timeline.steps if step.kind == "wait")
    return Totals(
        own=counters,
        tree=adder.usage,
        runs=adder.runs,
        is_partial=adder.is_partial,
        waited=sum(waits, timedelta(0)),
        agents=_dearest(adder.agents.values()),
        models=_dearest(adder.models.values()),
        tools=tuple(sorted(adder.tools.values(), key=lambda row: (-row.took, row.name))),
    )


def calls_of(steps: Iterable[Step]) -> Iterable[Step]:
    """Yield steps, and those inside of them, but not those of child runs."""
    for step in steps:
        yield step
        yield from calls_of(step.steps)


def _is_choice(step: Step) -> bool:
    """Say whether a model was asked which agent does something."""
    return step.kind == "activity" and step.usage is not None


class _Adder:
    """Adds up over a tree of runs."""

    def __init__(self) -> None:
        self.usage = NO_USAGE
        self.runs = 0
        self.is_partial = False
        self.agents: dict[str, Sum] = {}
        self.models: dict[str, Sum] = {}
        self.tools: dict[str, Sum] = {}

    def add(self, timeline: Timeline) -> None:
        if timeline.before is not None:
            self.usage = self.usage + timeline.before.usage
        for step in calls_of(timeline.steps):
            if step.kind == "model" or _is_choice(step):
                self._count(step, timeline.end)
            elif step.kind == "tool":
                self.tools[step.name] = self.tools.get(step.name, Sum(name=step.name)).plus(step, timeline.end)
            elif step.kind == "child":
                self.runs += 1
                self._add_child(step, timeline.end)

    def _add_child(self, step: Step, until: datetime) -> None:
        if step.below is not None:
            self.add(step.below)
            return
        self.is_partial = self.is_partial or bool(step.run_id)
        if step.usage is not None:
            self._count(step, until)

    def _count(self, step: Step, until: datetime) -> None:
        self.usage = self.usage + (step.usage or NO_USAGE)
        for rows, name in ((self.agents, step.agent), (self.models, step.model)):
            if name:
                rows[name] = rows.get(name, Sum(name=name)).plus(step, until)


def _dearest(rows: Iterable[Sum]) -> tuple[Sum, ...]:
    return tuple(sorted(rows, key=lambda row: (-(row.usage.cost_usd or 0), -row.usage.total_tokens, row.name)))
