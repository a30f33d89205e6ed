"""The tree of a run as it is drawn."""

from datetime import UTC, datetime, timedelta

from perdure.cli._tree import child_label, describe_child, tree_lines
from perdure.client import ChildRun, Tree, TreeNode

AT = datetime(2026, 1, 1, tzinfo=UTC)
END = AT + timedelta(seconds=65)


def drawn(tree: Tree) -> list[str]:
    return [line.plain.rstrip() for line in tree_lines(tree)]


def test_a_tree() -> None:
    inner = TreeNode(
        name="inner",
        state="completed",
        workflow="Inner",
        started_at=AT,
        closed_at=END,
        children=(TreeNode(name="writer-1", state="timed_out", agent="writer"),),
        hidden={"completed": 1200, "timed_out": 1},
    )
    tasks = [
        TreeNode(name="facts", state="failed", is_task=True, agent="expert", attempts=2, failure="X: \x1b[31mred"),
        TreeNode(
            name="end", state="waiting", is_task=True, agent="writer", waits_for=tuple(str(n) for n in range(8))
        ),
    ]
    assert drawn(Tree(children=(inner, *tasks))) == [
        "├─ completed  inner  Inner  1 min 5 s",
        "│  ├─ timed out  writer-1",
        "│  └─ … 1,201 more: 1,200 completed, 1 timed out",
        "├─ failed     facts  expert  attempt 2  X: [31mred",
        "└─ waiting    end  writer  waits for 0, 1, 2, 3, 4 and 3 more",
    ]


def test_nothing_below() -> None:
    assert drawn(Tree()) == []


def test_tasks_that_nobody_can_tell() -> None:
    lines = drawn(Tree(children=(TreeNode(name="x", state="running"),), needs_worker=True))
    assert "only a worker knows them" in lines[-1]


def test_a_child_in_a_line() -> None:
    child = ChildRun(
        workflow_id="w/a-1", workflow="AgentWorkflow", agent="a", status="failed", started_at=AT, failure="X: no"
    )
    assert child_label(child).plain == "failed"
    ended = child.model_copy(update={"closed_at": END})
    assert describe_child(ended, "w").plain == "a-1  1 min 5 s  X: no"
