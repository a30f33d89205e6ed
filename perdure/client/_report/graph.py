"""The graph of a plan as SVG, in layers: each task right of all that it needs. Client side; pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from perdure.client._report.markup import element, escaped, tone, took, word
from perdure.client._timeline.data import Step
from perdure.contracts.plan import Plan

_BOX = (170, 44)
_GAP = (60, 16)
_SWEEPS = 4


def plan_svg(
    plan: Plan, runs: Mapping[str, Step], anchors: Mapping[str, int], end: datetime, *, is_over: bool
) -> str:
    """Return a plan's graph.

    Args:
        plan: The tasks, and what each needs.
        runs: The last run of each task that had one.
        anchors: The number of the page's section for each workflow id.
        end: When the plan was over, or was read.
        is_over: It is over: a task without a run was skipped.
    """
    needs = {task.id: [need for need in task.needs if need != task.id] for task in plan.tasks}
    needs = {name: [need for need in each if need in needs] for name, each in needs.items()}
    layers = _layers(needs)
    _settle(layers, needs)
    places = _places(layers)
    width = 16 + len(layers) * (_BOX[0] + _GAP[0]) - _GAP[0]
    height = 16 + max(map(len, layers)) * (_BOX[1] + _GAP[1]) - _GAP[1]
    edges = "".join(_edge(places[need], places[name]) for name, each in needs.items() for need in each)
    agents = {task.id: task.agent for task in plan.tasks}
    idle = "skipped" if is_over else "waiting"
    boxes = "".join(
        _box(name, place, agents[name], runs.get(name), anchors, end, idle) for name, place in places.items()
    )
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return element("svg", edges + boxes, role="group", aria_label="Plan", class_="graph", **size)


def _layers(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the tasks by the longest way to them; in a cycle, which no plan at work has, where they are met."""
    depth: dict[str, int] = {}
    left = dict(needs)
    while left:
        ready = [name for name, each in left.items() if all(need in depth for need in each)] or [next(iter(left))]
        for name in ready:
            depth[name] = 1 + max((depth[need] for need in left.pop(name) if need in depth), default=-1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for name in needs:
        layers[depth[name]].append(name)
    return layers


def _settle(layers: list[list[str]], needs: Mapping[str, Sequence[str]]) -> None:
    """Order each layer by where the neighbours of its tasks are, so that few edges cross."""
    after: dict[str, list[str]] = {name: [] for name in needs}
    for name, each in needs.items():
        for need in each:
            after[need].append(name)
    for sweep in range(_SWEEPS):
        neighbours = needs if sweep % 2 == 0 else after
        position = {name: index / max(len(layer), 1) for layer in layers for index, name in enumerate(layer)}
        for layer in layers:
            around = {name: [position[each] for each in neighbours[name]] for name in layer}
            layer.sort(key=lambda name: sum(around[name]) / len(around[name]) if around[name] else position[name])
            position.update({name: index / len(layer) for index, name in enumerate(layer)})


def _places(layers: Sequence[Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Return the upper left corner of each task; every layer is centred."""
    tallest = max(map(len, layers))
    places: dict[str, tuple[int, int]] = {}
    for column, layer in enumerate(layers):
        top = 8 + (tallest - len(layer)) * (_BOX[1] + _GAP[1]) // 2
        for row, name in enumerate(layer):
            places[name] = (8 + column * (_BOX[0] + _GAP[0]), top + row * (_BOX[1] + _GAP[1]))
    return places


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _BOX[0], start[1] + _BOX[1] // 2
    x2, y2 = end[0], end[1] + _BOX[1] // 2
    bend = max((x2 - x1) // 2, 20)
    return f'<path class="edge" d="M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"/>'


def _box(
    name: str,
    place: tuple[int, int],
    agent: str,
    run: Step | None,
    anchors: Mapping[str, int],
    end: datetime,
    idle: str,
) -> str:
    state = idle if run is None else "running" if run.outcome == "open" else run.outcome
    second = f"{word(state)} · {took(run.took(end))}" if run is not None else state
    x, y = place
    told = f"{name} · {(run.agent if run is not None else '') or agent}\n{second}"
    failure = f"\n{run.failure}" if run is not None and run.failure else ""
    content = (
        f"<title>{escaped(told + failure)}</title>"
        f'<rect class="task {tone(state)}" x="{x}" y="{y}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6"/>'
        f'<text class="label strong" x="{x + 10}" y="{y + 18}">{escaped(_cut(name, 22))}</text>'
        f'<text class="time" x="{x + 10}" y="{y + 35}">{escaped(_cut(second, 26))}</text>'
    )
    number = None if run is None else anchors.get(run.workflow_id)
    return element("g", content) if number is None else element("a", content, href=f"#run-{number}")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
