"""The timeline as SVG: a row for each turn, child run, wait and other step. Client side; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.client._report.markup import element, escaped, money, tone, took, word
from perdure.client._timeline.data import Step, Timeline
from perdure.client._timeline.sums import calls_of

_WIDTH = 1200
_LABELS = 300
_RIGHT = 130
_ROW = 22
_HEAD = 28
_MOST_ROWS = 6_000
_COLOURED = ("model", "tool", "child", "wait", "timer", "agent")
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_UNITS = (
    (0.001, _STEPS),
    (1, (1, 2, 5, 10, 20, 30)),
    (60, (1, 2, 5, 10, 20, 30)),
    (3600, (1, 2, 4, 6, 12, 24, 48, 168)),
)


@dataclass(frozen=True)
class _Row:
    step: Step
    depth: int
    href: str


def timeline_svg(timeline: Timeline, anchors: dict[str, int]) -> str:
    """Return the timeline of a run and of those below it that were read.

    Args:
        timeline: The run.
        anchors: The number of the page's section for each workflow id.
    """
    rows = list(_rows(timeline, 0, anchors))
    left_out = len(rows) - _MOST_ROWS
    scale = _Scale(timeline.started_at, timeline.end)
    height = _HEAD + _ROW * min(len(rows), _MOST_ROWS) + 4
    drawn = [*_axis(scale, height), *(_row(row, y, scale) for y, row in enumerate(rows[:_MOST_ROWS]))]
    svg = element(
        "svg",
        "".join(drawn),
        viewBox=f"0 0 {_WIDTH} {height}",
        role="group",
        aria_label="Timeline",
        class_="bars",
    )
    note = element("p", f"{left_out:,} more steps are not drawn.", class_="note") if left_out > 0 else ""
    return svg + note


def _rows(timeline: Timeline, depth: int, anchors: dict[str, int]) -> Iterator[_Row]:
    number = anchors.get(timeline.workflow_id)
    for step in timeline.steps:
        yield from _step_rows(step, depth, number, anchors)


def _step_rows(step: Step, depth: int, number: int | None, anchors: dict[str, int]) -> Iterator[_Row]:
    yield _Row(step, depth, _href(step, number, anchors))
    if step.kind == "agent":
        for turn in step.steps:
            yield from _step_rows(turn, depth + 1, number, anchors)
    for child in calls_of(step.steps):
        if child.kind == "child":
            yield from _step_rows(child, depth + 1, number, anchors)
    if step.below is not None:
        yield from _rows(step.below, depth + 1, anchors)


def _href(step: Step, number: int | None, anchors: dict[str, int]) -> str:
    """Return the place in the page that a row leads to."""
    if step.kind == "child":
        return f"#run-{anchors[step.workflow_id]}" if step.workflow_id in anchors else ""
    return (
        f"#run-{number}-{step.slot}"
        if number is not None and step.kind == "turn" and step.slot is not None
        else ""
    )


class _Scale:
    """Where a time lies."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self.start = start
        self.end = end
        self.seconds = max((end - start).total_seconds(), 0.001)
        self._width = _WIDTH - _LABELS - _RIGHT

    def x(self, at: datetime) -> float:
        share = (at - self.start).total_seconds() / self.seconds
        return _LABELS + self._width * min(max(share, 0.0), 1.0)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield at most ten round times."""
        spans = [unit * number for unit, numbers in _UNITS for number in numbers]
        span = next((each for each in spans if self.seconds / each <= 8), self.seconds / 4)
        for index in range(int(self.seconds / span) + 1):
            time = timedelta(seconds=index * span)
            yield self.x(self.start + time), took(time) if index else "0"


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    for x, label in scale.ticks():
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD - 8}" y2="{height}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{_HEAD - 12}">{escaped(label)}</text>'


def _row(row: _Row, index: int, scale: _Scale) -> str:
    step, y = row.step, _HEAD + index * _ROW
    parts = [f'<rect class="hit" x="0" y="{y}" width="{_WIDTH}" height="{_ROW}"/>']
    indent = 8 + 16 * min(row.depth, 8)
    room = max(int((_LABELS - indent - 10) / 6.6), 8)
    label = _label(step)
    shown = label if len(label) <= room else f"{label[: room - 1]}…"
    parts.append(f'<text class="label {step_class(step)}" x="{indent}" y="{y + 15}">{escaped(shown)}</text>')
    parts.extend(_segments(step, y, scale))
    parts.append(
        f'<text class="time" x="{_WIDTH - _RIGHT + 8}" y="{y + 15}">{escaped(_facts(step, scale.end))}</text>'
    )
    told = element("title", escaped(_title(step, scale.end)))
    content = told + "".join(parts)
    return element("a", content, href=row.href) if row.href else element("g", content)


def step_class(step: Step) -> str:
    """Return the class of a step's label."""
    kind = "strong" if step.kind in ("turn", "child", "agent") else "plain"
    return f"{kind} {tone(step.outcome, has_problem=bool(step.problem))}"


def _segments(step: Step, y: int, scale: _Scale) -> Iterator[str]:
    """Yield the bars of a row; of a turn, model calls above and tools below."""
    calls = [each for each in step.steps if each.kind != "child"] if step.kind == "turn" else []
    if not calls:
        yield _bar(step, y + 5, 12, scale)
    for call in calls:
        is_model = call.kind == "model"
        yield _bar(call, y + (3 if is_model else 12), 8, scale)


def _bar(step: Step, y: int, height: int, scale: _Scale) -> str:
    x, end = scale.x(step.started_at), scale.x(step.ended_at or scale.end)
    kind = step.kind if step.kind in _COLOURED else "other"
    box = f'x="{x:.1f}" y="{y}" width="{max(end - x, 2):.1f}" height="{height}" rx="2"'
    bar = f'<rect class="bar {kind} {tone(step.outcome)}" {box}>'
    waited = ""
    if step.tried_at is not None and step.attempts > 1:
        lost = scale.x(step.tried_at) - x
        if lost > 1:
            waited = f'<rect class="lost" x="{x:.1f}" y="{y}" width="{lost:.1f}" height="{height}" rx="2"/>'
    return f"{bar}<title>{escaped(_title(step, scale.end))}</title></rect>{waited}"


def _label(step: Step) -> str:
    match step.kind:
        case "turn":
            return f"{step.name} · {step.model}" if step.model else step.name
        case "child":
            return (
                f"{step.name} · {step.agent}" if step.agent and not step.name.startswith(step.agent) else step.name
            )
        case "agent":
            return step.agent or step.name
        case "wait":
            return word(step.name)
        case "signal" | "update" | "sent":
            return f"{step.kind} {step.name}"
        case _:
            return step.label or step.name.removeprefix("perdure.").replace("_", " ")


def _facts(step: Step, end: datetime) -> str:
    cost = step.usage.cost_usd if step.usage is not None else None
    time = took(step.took(end)) if step.ended_at != step.started_at else ""
    return " · ".join(filter(None, (time, money(cost) if cost else "")))


def _title(step: Step, end: datetime) -> str:
    """Return all that there is to say of a step, for whoever points at it."""
    usage = step.usage
    facts: Sequence[str] = (
        _label(step),
        f"{word(step.outcome)} after {took(step.took(end))}",
        f"{step.attempts} attempts" if step.attempts > 1 else "",
        "answered by another call" if step.is_saved else "",
        f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out, {money(usage.cost_usd)}" if usage else "",
        step.failure,
        f"can't be used: {step.problem}" if step.problem else "",
    )
    return "\n".join(filter(None, facts))
