"""Puts the page together. Client side; pure, but for reading the package's own files."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.resources import files
from string import Template

import perdure
from perdure.client._report.bars import timeline_svg
from perdure.client._report.graph import plan_svg
from perdure.client._report.markup import element, escaped, money, tone, took, word
from perdure.client._report.talk import conversation
from perdure.client._timeline.data import Step, Timeline
from perdure.client._timeline.read import ReadRun, children_of
from perdure.client._timeline.sums import Sum, Totals, totals
from perdure.contracts.usage import Usage

_CLASSES = {"failure": "failure", "run id": "id"}
"""Of facts that look differently."""


def render(read: ReadRun) -> str:
    """Return the page of a run: HTML that loads nothing, and that nothing in the run can make load anything."""
    runs = [*_runs(read)]
    anchors = {run.timeline.workflow_id: number for number, run in enumerate(runs)}
    timeline, sums = read.timeline, totals(read.timeline)
    style, script = _file("page.css"), _file("page.js")
    return Template(_file("page.html")).substitute(
        title=escaped(timeline.workflow_id),
        style_hash=_hash(style),
        script_hash=_hash(script),
        style=style,
        script=script,
        state=element("span", escaped(word(timeline.status)), class_=f"badge {tone(timeline.status)}"),
        summary=escaped(timeline.summary),
        facts="".join(_facts(timeline, sums)),
        timeline=timeline_svg(timeline, anchors),
        plan_link='<a href="#plan">Plan</a>' if timeline.plan is not None else "",
        plan=_plan(timeline, anchors),
        sums=_tables(sums),
        runs="".join(conversation(run, number, is_open=number == 0) for number, run in enumerate(runs)),
        note=escaped(_note(timeline, sums, len(runs))),
    )


def _file(name: str) -> str:
    return files("perdure.client._report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return how the page's policy names the one style and the one script that it lets in."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _runs(read: ReadRun) -> Iterator[ReadRun]:
    """Yield a run and those below it, each before those below it."""
    yield read
    for below in read.below.values():
        yield from _runs(below)


def _facts(timeline: Timeline, sums: Totals) -> Iterator[str]:
    own = sums.own
    workflow = "" if timeline.summary == timeline.workflow else timeline.workflow  # it is said above already
    pairs = [
        ("agent", timeline.agent) if timeline.agent else ("workflow", workflow),
        ("started", timeline.started_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("time", took(timeline.end - timeline.started_at)),
        ("waiting", took(sums.waited) if sums.waited else ""),
        ("turns", f"{own.turns:,}" if own.turns else ""),
        ("tool calls", f"{own.tool_calls:,}" if own.tool_calls else ""),
        ("used", _used(own.usage) if own.turns else ""),
        ("child runs", f"{sums.runs:,}" if sums.runs else ""),
        ("with these", ("at least " if sums.is_partial else "") + _used(sums.tree) if sums.runs else ""),
        ("chain", f"{len(timeline.links)} runs" if len(timeline.links) > 1 else ""),
        ("run id", timeline.run_id),
        ("failure", timeline.failure),
    ]
    for name, value in pairs:
        if value:
            yield element("dt", escaped(name)) + element("dd", escaped(value), class_=_CLASSES.get(name))


def _used(usage: Usage) -> str:
    cost = "cost unknown" if usage.cost_usd is None else money(usage.cost_usd)
    return f"{usage.total_tokens:,} tokens · {cost}"


def _plan(timeline: Timeline, anchors: dict[str, int]) -> str:
    if timeline.plan is None or not timeline.plan.tasks:
        return ""
    runs: dict[str, Step] = {}
    for child in children_of(timeline.steps):
        kind, _, name = child.name.partition("/")
        if kind == "plan-1":
            runs[name.partition(".")[0]] = child
    drawn = plan_svg(timeline.plan, runs, anchors, timeline.end, is_over=timeline.closed_at is not None)
    head = element("h2", "Plan" + (f": {escaped(timeline.plan.title)}" if timeline.plan.title else ""))
    return element("section", head + element("div", drawn, class_="scroll", tabindex=0), id="plan")


def _tables(sums: Totals) -> str:
    tables = (("Agent", sums.agents, True), ("Model", sums.models, True), ("Tool", sums.tools, False))
    return "".join(_table(title, rows, has_usage=has_usage) for title, rows, has_usage in tables if rows)


def _table(title: str, rows: Iterable[Sum], *, has_usage: bool) -> str:
    rows = [*rows]
    columns = [title, "Calls", "Bad", "Retries", "Time", *(("Tokens", "Cost") if has_usage else ()), "Share"]
    head = element("tr", "".join(element("th", escaped(column), scope="col") for column in columns))
    weights = [_weight(row, rows, has_usage=has_usage) for row in rows]
    whole = max(sum(weights), 1e-12)
    body = "".join(
        _sum_row(row, weight / whole, has_usage=has_usage) for row, weight in zip(rows, weights, strict=True)
    )
    by = "of cost" if has_usage and _is_priced(rows) else "of tokens" if has_usage else "of time"
    caption = element("caption", escaped(f"By {title.lower()}; share {by}"))
    return element("table", caption + element("thead", head) + element("tbody", body))


def _is_priced(rows: Iterable[Sum]) -> bool:
    return all(row.usage.cost_usd is not None for row in rows) and any(row.usage.cost_usd for row in rows)


def _weight(row: Sum, rows: Iterable[Sum], *, has_usage: bool) -> float:
    if not has_usage:
        return row.took.total_seconds()
    return float(row.usage.cost_usd or 0) if _is_priced(rows) else float(row.usage.total_tokens)


def _sum_row(row: Sum, share: float, *, has_usage: bool) -> str:
    numbers = [
        f"{row.calls:,}",
        f"{row.bad:,}" if row.bad else "",
        f"{row.retries:,}" if row.retries else "",
        took(row.took),
    ]
    if has_usage:
        numbers += [f"{row.usage.total_tokens:,}", money(row.usage.cost_usd)]
    cells = "".join(element("td", escaped(number)) for number in numbers)
    drawn = f'<rect width="{100 * share:.1f}" height="8"/>'
    bar = element("svg", drawn, viewBox="0 0 100 8", class_="share", aria_hidden="true")
    told = element("td", f"{bar} {100 * share:.0f}%")
    return element("tr", element("th", escaped(row.name), scope="row") + cells + told)


def _note(timeline: Timeline, sums: Totals, read: int) -> str:
    left_out = f" {sums.runs + 1 - read:,} child runs are not read in." if sums.runs + 1 > read else ""
    unread = f" {timeline.unread:,} contents could not be decoded." if timeline.unread else ""
    made = timeline.read_at.strftime("%Y-%m-%d %H:%M UTC")
    return f"Made from Event History by perdure {perdure.__version__}, {made}.{left_out}{unread}"
