"""What keeps an amendment from being applied, and where in it that is."""

from typing import Any

from perdure.agents.amendments import amended, check_amendment
from perdure.contracts.plan import Plan, PlanAmendment, Task, TaskState


def task(id: str, *needs: str, **fields: Any) -> Task:
    given: dict[str, Any] = {"agent": "worker", "needs": needs, **fields}
    return Task(id=id, **given)


PLAN = Plan(tasks=(task("a"), task("b", "a"), task("c", "b"), task("d")))
STATES: dict[str, TaskState] = {"a": "done", "b": "waiting", "c": "waiting", "d": "failed"}


def faults(*tasks: Task, drop: tuple[str, ...] = ()) -> list[tuple[str, tuple[str | int, ...]]]:
    amendment = PlanAmendment(tasks=tasks, drop=drop)
    found = check_amendment(PLAN, amendment, STATES, ["worker"], ["judge"])
    return [(fault.message, fault.path) for fault in found]


def test_tasks_are_replaced_in_their_place_added_and_dropped() -> None:
    whole = amended(PLAN, PlanAmendment(tasks=(task("e"), task("b", "e")), drop=("c",)))
    assert [each.id for each in whole.tasks] == ["a", "b", "d", "e"]
    assert whole.tasks[1].needs == ("e",)


def test_what_has_not_started_or_has_failed_may_be_changed() -> None:
    assert faults(task("b"), task("d", verify="judge"), task("e", "c", "a", input="{{a}}")) == []
    assert faults(drop=("c", "d")) == []


def test_every_fault_is_told_with_its_place_in_the_amendment() -> None:
    assert faults(task("e", verify="nobody"), task("a"), task("e", "zz"), drop=("a", "y", "b")) == [
        ("Task 'a' is done: it can't be changed any more.", ("tasks", 1, "id")),
        ("There are several tasks 'e': rename all but one.", ("tasks", 2, "id")),
        ("Task 'a' is done: it can't be dropped any more.", ("drop", 0)),
        ("There is no task 'y' to drop. Known: a, b, c, d.", ("drop", 1)),
        ("Task 'c' needs 'b', and there is no such task. Known: a, c, d, e.", ()),
        ("Task 'e' needs 'zz', and there is no such task. Known: a, c, d, e.", ("tasks", 2, "needs", 0)),
    ]
