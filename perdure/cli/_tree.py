"""Drawing the tree of a run."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from perdure.cli._format import clean, duration, one_line
from perdure.cli._render import print_lines
from perdure.client import ChildRun, Tree, TreeNode

_STYLES = {
    "running": "cyan",
    "completed": "green",
    "done": "green",
    "failed": "red",
    "terminated": "red",
    "timed_out": "red",
    "canceled": "yellow",
    "cancelled": "yellow",
    "skipped": "dim",
    "waiting": "dim",
}
_NEED = "The tasks of its plan aren't shown: only a worker knows them, and none answered."


def print_tree(out: Console, tree: Tree) -> None:
    """Print a tree, a line for each node."""
    print_lines(out, tree_lines(tree))


def tree_lines(tree: Tree) -> Iterator[Text]:
    """Yield the lines of a tree; none where nothing is below the run."""
    yield from _lines(tree.children, tree.hidden, "")
    if tree.needs_worker:
        yield Text(_NEED, style="yellow")


def _lines(nodes: Sequence[TreeNode], hidden: Mapping[str, int], indent: str) -> Iterator[Text]:
    last = len(nodes) - (not hidden)
    for index, node in enumerate(nodes):
        branch = f"{indent}{'└─' if index == last else '├─'} "
        line = Text(branch, style="dim", no_wrap=True, overflow="ellipsis")
        yield line.append_text(_line(node))
        yield from _lines(node.children, node.hidden, f"{indent}{'   ' if index == last else '│  '}")
    if hidden:
        numbers = ", ".join(f"{number:,} {_word(state)}" for state, number in hidden.items())
        yield Text(f"{indent}└─ … {sum(hidden.values()):,} more: {numbers}", style="dim")


def _line(node: TreeNode) -> Text:
    line = Text(_word(node.state).ljust(9), style=_STYLES.get(node.state, ""))
    line.append(f"  {clean(node.name)}", style="not dim")
    who = node.agent or node.workflow
    if who and not _is_named_after(node.name, who):
        line.append(f"  {who}", style="dim")
    if node.attempts > 1:
        line.append(f"  attempt {node.attempts}", style="yellow")
    if node.started_at is not None:
        line.append(f"  {duration((node.closed_at or datetime.now(UTC)) - node.started_at)}", style="dim")
    if node.failure:
        line.append(f"  {one_line(node.failure)}", style="red")
    if node.chosen_by:
        line.append(f"  by {one_line(node.chosen_by)}", style="dim")
    if node.waits_for:
        line.append(f"  waits for {_listed(node.waits_for)}")
    return line


def _is_named_after(name: str, who: str) -> bool:
    """Say whether a name tells who works there, as the ids that perdure makes do: `writer-1`."""
    return name.rpartition("-")[0] == who


def _listed(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _word(state: str) -> str:
    return state.replace("_", " ")


def child_label(child: ChildRun) -> Text:
    """Return the state of a child as a label."""
    return Text(_word(child.status), style=_STYLES.get(child.status, ""))


def describe_child(child: ChildRun, parent: str) -> Text:
    """Return a child run in a line."""
    text = Text(clean(child.workflow_id.removeprefix(f"{parent}/")))
    if child.agent and not _is_named_after(child.workflow_id.rpartition("/")[2], child.agent):
        text.append(f"  {child.agent}", style="dim")
    if child.closed_at is not None:
        text.append(f"  {duration(child.closed_at - child.started_at)}", style="dim")
    if child.failure:
        text.append(f"  {one_line(child.failure)}", style="red")
    return text
