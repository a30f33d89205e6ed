"""A plan's faults: all of them at once, each where it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.plans import check_plan, invalid_plan
from perdure.contracts.plan import MAX_TASKS, Plan, PlanFault, RetryWith, Task
from perdure.contracts.selection import SelectBy
from perdure.errors import InvalidPlanError

AGENTS = ("writer", "critic")


def plan(*tasks: Task) -> Plan:
    return Plan(tasks=tasks)


def task(id: str, *needs: str, **fields: Any) -> Task:
    given: dict[str, Any] = {"agent": "writer", "needs": needs, **fields}
    return Task(id=id, **given)


def faults(*tasks: Task) -> list[tuple[tuple[str | int, ...], str]]:
    return [(fault.path, fault.message) for fault in check_plan(plan(*tasks), AGENTS)]


def test_a_good_plan_has_none() -> None:
    first = task("a", on_error=RetryWith(retry_with="critic"))
    task_of_anyone = task("d", agent="auto", candidates=("critic",), select=SelectBy(strategy="learned"))
    assert faults(task_of_anyone, task("e", agent="auto")) == []
    last = task("c", "b", input=r"{{a}} and {{b.title}}, \{{not}}")
    assert faults(last, task("b", "a"), first) == []


@pytest.mark.parametrize(
    ("tasks", "path", "message"),
    [
        ([], ("tasks",), "The plan has no tasks."),
        ([task("a", agent="writr")], ("tasks", 0, "agent"), "no agent 'writr'. Did you mean 'writer'?"),
        (
            [task("a", on_error=RetryWith(retry_with="critik"))],
            ("tasks", 0, "on_error", "retry_with"),
            "no agent 'critik'. Did you mean 'critic'?",
        ),
        (
            [task("a", agent="auto", candidates=("writer", "critik"))],
            ("tasks", 0, "candidates", 1),
            "no agent 'critik'. Did you mean 'critic'?",
        ),
        ([task("a", candidates=("critic",))], ("tasks", 0, "candidates"), "write agent: auto"),
        ([task("a", select=SelectBy())], ("tasks", 0, "select"), "names its agent, and so none is chosen"),
        ([task("1")], ("tasks", 0, "id"), "Task id '1' can't be used"),
        ([task("a"), task("a")], ("tasks", 1, "id"), "There are several tasks 'a'"),
        ([task("a", "a")], ("tasks", 0, "needs", 0), "Task 'a' needs itself."),
        ([task("abc"), task("b", "abd")], ("tasks", 1, "needs", 0), "no such task. Did you mean 'abc'?"),
        ([task("a"), task("b", "a", "a")], ("tasks", 1, "needs", 1), "names its need 'a' twice"),
        ([task("a", input="{{ b c }}")], ("tasks", 0, "input"), "'{{ b c }}' is no reference"),
        ([task("a", input="{{b}}")], ("tasks", 0, "input"), "refers to 'b', and there is no such task"),
        ([task("a", input="{{a}}")], ("tasks", 0, "input"), "refers to its own result"),
        ([task("a"), task("b", input="{{a}}")], ("tasks", 1, "input"), "'a', which it does not need"),
        ([task("a", "b"), task("b", "a")], ("tasks", 0, "needs"), "Tasks wait for each other: a → b → a."),
    ],
)
def test_a_fault_is_told_with_its_place(tasks: list[Task], path: tuple[Any, ...], message: str) -> None:
    ((found, told),) = faults(*tasks)
    assert found == path
    assert message in told


def test_a_plan_may_be_too_long() -> None:
    ((path, told),) = faults(*(task(f"t{n}") for n in range(MAX_TASKS + 1)))
    assert (path, told) == (("tasks",), "The plan has 1001 tasks, more than 1000.")


def test_every_fault_is_told_at_once() -> None:
    bad = [task("a", "b", agent="x"), task("b", "c"), task("c", "a", "zz", input="{{q}}"), task("a", "a")]
    assert len(faults(*bad)) == 6


def test_each_group_of_tasks_in_a_cycle_is_named_once() -> None:
    told = faults(
        task("a", "c"), task("b", "a"), task("c", "b", "a"), task("d", "e"), task("e", "d"), task("f", "a")
    )
    assert [message for _, message in told] == [
        "Tasks wait for each other: a → c → a.",
        "Tasks wait for each other: d → e → d.",
    ]


def test_agents_are_not_checked_where_they_are_not_known() -> None:
    assert check_plan(plan(task("a", agent="anybody")), None) == []


def test_the_error_tells_all() -> None:
    error = invalid_plan([PlanFault(message="One.", path=("tasks", 0)), PlanFault(message="Two.")])
    assert isinstance(error, InvalidPlanError)
    assert error.message == "The plan has 2 faults:\n- One.\n- Two."
    assert error.attributes["faults"] == [{"message": "One.", "path": ["tasks", 0]}, {"message": "Two."}]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from("abcde"), max_size=3)), max_size=6))
def test_a_plan_without_faults_can_be_ordered_and_others_can_not(shape: list[tuple[str, list[str]]]) -> None:
    tasks = [task(name, *needs) for name, needs in shape]
    assert bool(faults(*tasks)) != _can_be_ordered(tasks)


def _can_be_ordered(tasks: list[Task]) -> bool:
    names = [each.id for each in tasks]
    if not tasks or len(set(names)) < len(names) or any(len(set(t.needs)) < len(t.needs) for t in tasks):
        return False
    over: set[str] = set()
    for _ in tasks:
        over |= {each.id for each in tasks if over.issuperset(each.needs)}
    return over == set(names)
