"""The tree of a run: what of it is shown, and a plan's state as history tells it."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from perdure.client._children import ChildRun
from perdure.client._runs import RunInfo
from perdure.client._tree import TreeNode, choose, plan_from_history
from perdure.contracts.plan import Plan, Task

AT = datetime(2026, 1, 1, tzinfo=UTC)
STATES = ("failed", "running", "waiting", "done", "completed", "skipped")


def run_info(**fields: Any) -> RunInfo:
    facts: dict[str, Any] = {
        "workflow_id": "w",
        "run_id": "r",
        "workflow": "PlanWorkflow",
        "status": "running",
        "task_queue": "q",
        "started_at": AT,
        "history_events": 1,
        "history_bytes": 1,
    }
    return RunInfo(**{**facts, **fields})


def child(task: str, status: Any, **fields: Any) -> ChildRun:
    return ChildRun(
        workflow_id=f"w/plan-1/{task}", workflow="AgentWorkflow", status=status, started_at=AT, **fields
    )


@given(st.lists(st.sampled_from(STATES), max_size=60), st.integers(1, 30))
def test_what_is_not_shown_is_counted(states: list[str], limit: int) -> None:
    nodes = [TreeNode(name=str(number), state=state) for number, state in enumerate(states)]
    shown, hidden = choose(nodes, limit)
    assert len(shown) == min(limit, len(nodes))
    assert len(shown) + sum(hidden.values()) == len(nodes)
    names = [int(node.name) for node in shown]
    assert names == sorted(names)
    if "failed" in hidden:
        assert {node.state for node in shown} == {"failed"}
    if "running" in hidden:
        assert {node.state for node in shown} <= {"failed", "running"}


def test_a_plan_as_history_tells_it() -> None:
    tasks = (
        Task(id="a", agent="x"),
        Task(id="b", agent="x", needs=("a",)),
        Task(id="c", agent="x", needs=("a", "b")),
        Task(id="d", agent="x"),
    )
    children = [
        child("a", "completed"),
        child("d", "failed"),
        child("d.2", "running", agent="y"),
        child("b", "running"),
    ]
    status = plan_from_history(run_info(), Plan(tasks=tasks, title="T"), children)
    assert {task.id: task.state for task in status.tasks} == {
        "a": "done",
        "b": "running",
        "c": "waiting",
        "d": "running",
    }
    by_id = {task.id: task for task in status.tasks}
    assert by_id["c"].waits_for == ("b",)
    assert (by_id["d"].attempts, by_id["d"].agent, by_id["d"].workflow_id) == (2, "y", "w/plan-1/d.2")


def test_a_plan_that_is_over_waits_for_nothing() -> None:
    tasks = (Task(id="a", agent="x"), Task(id="b", agent="x", needs=("a",)))
    over = run_info(status="terminated", closed_at=AT)
    status = plan_from_history(over, Plan(tasks=tasks), [child("a", "canceled")])
    assert [(task.state, task.waits_for) for task in status.tasks] == [("cancelled", ()), ("skipped", ())]
