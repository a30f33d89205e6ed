"""What the web UI shows of an open run: its current details, in Markdown. Workflow side; pure.

Temporal's UI asks the workflow for them by a query: they are in no history, and replay knows nothing of them. So
they are made when they are asked for, and a turn takes no time for them.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

from perdure.contracts.run import RunStatus
from perdure.contracts.texts import one_line

UI_URL = "__perdure_ui_url"
"""The function outside of the sandbox that returns the address of Temporal's web UI; see `PerdureInterceptor`."""
_MOST_RUNS = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~])")


@dataclass(frozen=True)
class _Open:
    agent: str
    run_id: str = ""


class ChildRuns:
    """The child runs of a workflow, as its details tell of them.

    Attributes:
        on_change: Called when one begins or ends.
    """

    def __init__(self) -> None:
        """There are none yet."""
        self.on_change: Callable[[], None] = lambda: None
        self._open: dict[str, _Open] = {}
        self._ended: Counter[str] = Counter()

    @contextmanager
    def entered(self, workflow_id: str, agent: str) -> Generator[Callable[[str], None]]:
        """Tell of a run while it is open; yields what takes its run id once that is known."""

        def note(run_id: str) -> None:
            self._open[workflow_id] = _Open(agent, run_id)
            self.on_change()

        self._open[workflow_id] = _Open(agent)
        self.on_change()
        try:
            yield note
        except (Exception, asyncio.CancelledError) as error:  # not GeneratorExit: nothing is shown after it
            self._leave(workflow_id, "cancelled" if is_cancelled_exception(error) else "failed")
            raise
        self._leave(workflow_id, "completed")

    def _leave(self, workflow_id: str, end: str) -> None:
        self._open.pop(workflow_id, None)
        self._ended[end] += 1
        self.on_change()

    def told(self) -> str:
        """Return a list of the runs at work, and the numbers of the others; empty without any."""
        lines = [_run_line(name, each) for name, each in list(self._open.items())[:_MOST_RUNS]]
        if len(self._open) > _MOST_RUNS:
            lines.append(f"- … {len(self._open) - _MOST_RUNS:,} more at work")
        if self._ended:
            numbers = ", ".join(f"{number:,} {end}" for end, number in sorted(self._ended.items()))
            lines.append(f"- before: {numbers}")
        return "\n".join(lines)

    def details(self) -> str:
        """Return the details of a workflow that has none of its own."""
        told = self.told()
        return f"Child runs\n\n{told}" if told else ""


def agent_details(status: RunStatus, runs: str) -> str:
    """Return the details of an agent's run.

    Args:
        status: The run at a glance.
        runs: What is told of its child runs.
    """
    head = f"**{escaped(status.agent)}** · {status.state.replace('_', ' ')} · turn {status.counters.turns}"
    parts = (head, escaped(status.activity), _used(status), runs)
    return "\n\n".join(part for part in parts if part)


def escaped(text: str) -> str:
    """Return a text of which Markdown makes nothing: models write some of it."""
    return _SPECIAL.sub(r"\\\1", one_line(text, 500))


def _used(status: RunStatus) -> str:
    counters, limits, usage = status.counters, status.limits, status.counters.usage
    tokens, cost = usage.total_tokens, usage.cost_usd
    budget, spent = status.budget, status.spent
    if spent is not None:
        tokens, cost = spent.tokens, spent.cost_usd
    most_usd = limits.max_cost_usd if budget is None else budget.cost_usd
    most_tokens = limits.max_total_tokens if budget is None else budget.tokens
    dollars = "cost unknown" if cost is None else f"spent ${cost:.4f}"
    held = status.reserved.cost_usd if status.reserved is not None else 0
    return " · ".join(
        (
            dollars
            + _of(None if most_usd is None else f"${most_usd}")
            + (f", ${held:.4f} reserved" if held else ""),
            f"{tokens:,} tokens" + _of(None if most_tokens is None else f"{most_tokens:,}"),
            _counted(counters.turns, "turn") + _of(limits.max_turns),
            _counted(counters.tool_calls, "tool call") + _of(limits.max_tool_calls),
        )
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _of(limit: object) -> str:
    return "" if limit is None else f" of {limit}"


def _run_line(workflow_id: str, run: _Open) -> str:
    name = escaped(workflow_id.removeprefix(f"{workflow.info().workflow_id}/"))
    address = ui_address(workflow_id, run.run_id)
    return f"- [{name}]({address}) {escaped(run.agent)}" if address else f"- {name} · {escaped(run.agent)}"


def ui_address(workflow_id: str, run_id: str) -> str:
    """Return the page of a run in the web UI; empty where the UI's address isn't known."""
    outside = cast("Mapping[str, Callable[[], str]]", workflow.extern_functions())
    base = outside[UI_URL]().rstrip("/") if UI_URL in outside else ""
    if not base:
        return ""
    place = (
        f"{base}/namespaces/{quote(workflow.info().namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
    )
    return f"{place}/{run_id}/history" if run_id else place
