"""The state machine of a plan: what starts when, and what an end means for the others."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.amendments import check_amendment
from perdure.agents.plans import final_policy
from perdure.contracts.plan import OnTaskError, Plan, PlanAmendment, RetryWith, Task, TaskFailure
from perdure.workflows._plan_state import PlanState


def task(id: str, *needs: str, **fields: Any) -> Task:
    given: dict[str, Any] = {"agent": "worker", "needs": needs, **fields}
    return Task(id=id, **given)


def state_of(*tasks: Task) -> PlanState:
    return PlanState(Plan(tasks=tasks, title="A plan"))


def take_all(state: PlanState) -> list[str]:
    return list(iter(state.take, None))


def failure(name: str, message: str = "no") -> TaskFailure:
    return TaskFailure(task=name, agent="worker", type="TaskFailed", message=message)


def states(state: PlanState) -> dict[str, str]:
    return {each.id: each.state for each in state.result().tasks}


def diamond(policy: OnTaskError) -> PlanState:
    return state_of(
        task("root", on_error=policy),
        task("left", "root", on_error=policy),
        task("right", "root"),
        task("end", "left"),
    )


def test_a_task_starts_when_its_needs_are_over() -> None:
    state = diamond("fail")
    assert take_all(state) == ["root"]
    state.finish("root", "x")
    assert take_all(state) == ["left", "right"]
    assert state.result()["end"].waits_for == ("left",)
    state.finish("left", "y")
    assert take_all(state) == ["end"]
    assert states(state) == {"root": "done", "left": "done", "right": "running", "end": "running"}
    assert state.result().outputs == {"root": "x", "left": "y"}
    assert state.by_state() == {"done": ["root", "left"], "running": ["right", "end"]}


def test_the_longest_chain_goes_first() -> None:
    state = state_of(task("short"), task("c", "b"), task("b", "a"), task("a"), task("other"))
    assert take_all(state) == ["a", "short", "other"]


def test_fail_names_the_failure_and_what_has_not_started_is_skipped() -> None:
    state = diamond("fail")
    state.take()
    state.finish("root", 1)
    take_all(state)
    state.fail("left", failure("left"))
    assert state.failed == failure("left")
    state.stop()
    state.cancel("right")
    assert take_all(state) == []
    assert states(state) == {"root": "done", "left": "failed", "right": "cancelled", "end": "skipped"}


def test_the_first_of_two_failures_is_the_plans() -> None:
    state = state_of(task("a"), task("b"))
    take_all(state)
    state.fail("b", failure("b"))
    state.fail("a", failure("a"))
    assert state.failed == failure("b")
    assert [each.task for each in state.result().failures] == ["a", "b"]


def test_skip_dependents_skips_them_at_any_distance() -> None:
    state = diamond("skip_dependents")
    state.take()
    state.finish("root", 1)
    take_all(state)
    state.fail("left", failure("left"))
    state.finish("right", 2)
    assert state.failed is None
    assert states(state) == {"root": "done", "left": "failed", "right": "done", "end": "skipped"}


def test_continue_gives_the_failure_as_data() -> None:
    state = state_of(task("a", on_error="continue"), task("b", "a", input="{{a}} {{a.title}}"))
    state.take()
    state.fail("a", failure("a", 'say "no"'))
    assert take_all(state) == ["b"]
    told = '{"error": {"task": "a", "agent": "worker", "type": "TaskFailed", "message": "say \\"no\\""}}'
    assert state.input_of("b", {}) == [f"{told} {told}"]


@pytest.mark.parametrize(
    ("then", "end"), [("fail", "waiting"), ("skip_dependents", "skipped"), ("continue", "waiting")]
)
def test_another_agent_tries_once(then: Any, end: str) -> None:
    state = state_of(task("a", on_error=RetryWith(retry_with="expert", then=then)), task("b", "a"))
    state.take()
    state.fail("a", failure("a", "first"))
    assert (state.result()["a"].state, state.agent_of("a"), state.failed) == ("waiting", "expert", None)
    assert take_all(state) == ["a"]
    assert state.attempt_of("a") == 2
    state.fail("a", failure("a", "second"))
    assert state.result()["a"].failure == failure("a", "second")
    assert states(state) == {"a": "failed", "b": end}
    assert (state.failed is not None) == (then == "fail")


def test_a_task_that_failed_while_the_plan_stops_is_not_retried() -> None:
    state = state_of(task("a", on_error=RetryWith(retry_with="expert")))
    state.take()
    state.stop()
    state.fail("a", failure("a"))
    assert states(state) == {"a": "failed"}


def test_a_change_that_comes_while_the_plan_stops_leaves_nothing_waiting() -> None:
    """The planner may be done at the moment in which it is cancelled."""
    state = state_of(task("a", on_error="replan"), task("b", "a"))
    state.take()
    state.fail("a", failure("a"))
    assert state.take_replan() is not None
    state.stop()
    state.amend(PlanAmendment(tasks=(task("a"), task("new"))))
    state.end_replan(["a"])
    assert states(state) == {"a": "skipped", "b": "skipped", "new": "skipped"}
    assert take_all(state) == []


def test_outputs_apart_are_read_when_somebody_refers_to_them() -> None:
    state = state_of(task("a"), task("b", "a"), task("c", "b", input="{{a.title}} {{a}} {{b}}"))
    state.take()
    state.note_run("a", "run of a")
    state.finish("a", None, is_apart=True)
    state.take()
    state.finish("b", "short")
    state.take()
    assert state.outputs_apart("b") == []
    assert state.outputs_apart("c") == ["a"]
    assert state.run_of("a") == "run of a"
    assert state.input_of("c", {"a": {"title": "T"}}) == ['T {"title": "T"} short']


def test_a_field_that_is_not_there_is_named() -> None:
    state = state_of(task("a"), task("b", "a", input="{{a.title}}"))
    state.take()
    state.finish("a", {"name": 1})
    with pytest.raises(LookupError) as raised:
        state.input_of("b", {})
    assert raised.value.args[0] == "{{a.title}} of its input: there is no 'title': it is an object without it"


def test_the_status_has_no_outputs() -> None:
    state = state_of(task("a"))
    state.take()
    state.finish("a", "x")
    status = state.status(2)
    assert (status.number, status.title) == (2, "A plan")
    assert [(each.state, each.output) for each in status.tasks] == [("done", None)]


def test_a_result_may_be_bounded() -> None:
    state = state_of(task("a"), task("b"), task("c"))
    for name, size in zip(take_all(state), (10, 500, 300), strict=True):
        state.finish(name, "x" * size)
    bounded = state.result(400)
    assert [each.is_output_apart for each in bounded.tasks] == [False, True, False]
    assert bounded["b"].output is None
    assert len(str(bounded["c"].output)) == 300
    with pytest.raises(KeyError):
        bounded["d"]


def _wailing(count: int) -> PlanState:
    """A plan whose tasks have all failed, and told of it at length."""
    state = state_of(*(task(f"t{n}", on_error="continue") for n in range(count)))
    for name in take_all(state):
        state.fail(name, failure(name, "长" * 5_000))
    return state


def test_failures_take_little_room_together() -> None:
    state = _wailing(1000)
    for told in (state.result(1_000_000), state.status(1)):
        assert len(told.to_bytes()) < 500_000
        assert all(each.failure is not None and len(each.failure.message) > 90 for each in told.tasks)
    assert len(state.result().tasks[0].failure.message) == 5_000  # pyright: ignore[reportOptionalMemberAccess]
    few = _wailing(10)
    assert [each.message for each in few.result(1_000_000).failures] == ["长" * 5_000] * 10


def test_a_status_names_as_many_needs_as_can_be_read() -> None:
    first = [task(f"first-of-all-{n}") for n in range(500)]
    names = tuple(each.id for each in first)
    state = state_of(*first, *(task(f"t{n}", *names) for n in range(500)))
    assert len(state.status(1).to_bytes()) < 500_000
    assert state.status(1).tasks[-1].waits_for == names[:5]
    assert state.result()["t9"].waits_for == names
    small = state_of(*first[:9], task("end", *names[:9]))
    assert small.status(1).tasks[-1].waits_for == names[:9]


endings: st.SearchStrategy[Any] = st.sampled_from(["fail", "skip_dependents", "continue", "replan"])
policies: st.SearchStrategy[Any] = endings | st.builds(RetryWith, retry_with=st.just("expert"), then=endings)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    number = draw(st.integers(1, 12))
    tasks: list[Task] = []
    for index in range(number):
        earlier = [f"t{n}" for n in range(index)]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        tasks.append(task(f"t{index}", *needs, on_error=draw(policies)))
    return Plan(tasks=tuple(draw(st.permutations(tasks))), planner="planner")


@given(plans(), st.integers(0, 3), st.data())
def test_whatever_fails_each_task_runs_as_often_as_it_may_and_the_plan_ends(
    plan: Plan, max_replans: int, data: st.DataObject
) -> None:
    """Tasks fail, planners replace some of what failed, people change and retry: within bounds, it ends."""
    state = PlanState(plan.model_copy(update={"max_replans": max_replans}))
    run = Run(state, data)
    for _ in range(20 * len(plan.tasks)):
        run.start()
        if state.failed is not None or not run.step():
            break
    else:
        raise AssertionError("the plan did not end")
    run.close()
    run.check_end()


class Run:
    """A plan whose tasks end as hypothesis draws, and what may be expected of it."""

    def __init__(self, state: PlanState, data: st.DataObject) -> None:
        self.state, self.data = state, data
        self.started, self.allowed = Counter[str](), Counter[str]()
        self.running, self.done = list[str](), dict[str, Any]()
        self.retries = 3
        self.allow(*state.plan.tasks)

    def allow(self, *tasks: Task) -> None:
        for each in tasks:
            self.allowed[each.id] += 2 if isinstance(each.on_error, RetryWith) else 1

    def start(self) -> None:
        for name in take_all(self.state):
            self.started[name] += 1
            assert name not in self.done, "a finished task was started again"
            self.running.append(name)
            _check_needs(self.state, name)

    def step(self) -> bool:
        """Have one thing happen; say whether anything could."""
        if self.state.take_replan() is not None:
            assert take_all(self.state) == []
            self.replan()
            return True
        if self.state.failed is not None:
            return True
        over = [name for name, each in self.state.states().items() if each in ("failed", "skipped")]
        if over and self.running and self.retries and self.data.draw(st.booleans()):
            self.retry(self.data.draw(st.sampled_from(over)))
            return True
        if not self.running:
            return False
        self.end_one()
        return True

    def end_one(self) -> None:
        name = self.running.pop(self.data.draw(st.integers(0, len(self.running) - 1)))
        if self.data.draw(st.booleans()):
            self.done[name] = self.started[name]
            self.state.finish(name, self.started[name])
        else:
            self.state.fail(name, failure(name))

    def retry(self, name: str) -> None:
        self.retries -= 1
        before = self.state.states()
        self.state.retry(name)
        after = self.state.states()
        self.allow(
            *(self.state.task(each) for each in before if (before[each], after[each]) == ("failed", "waiting"))
        )

    def replan(self) -> None:
        known = self.state.to_replan
        chosen = self.data.draw(st.lists(st.sampled_from(known), unique=True))
        policy = self.data.draw(policies)
        tasks = [self.state.task(name).model_copy(update={"on_error": policy}) for name in chosen]
        amendment = PlanAmendment(tasks=(*tasks, task(f"new{self.state.replans}")))
        assert check_amendment(self.state.plan, amendment, self.state.states(), None) == []
        self.state.amend(amendment)
        self.state.end_replan(known)
        self.allow(*amendment.tasks)

    def close(self) -> None:
        assert not self.running or self.state.failed is not None, "the plan did not end"
        if self.state.failed is not None:
            self.state.stop()
            for name in self.running:
                self.state.cancel(name)

    def check_end(self) -> None:
        assert self.state.replans <= self.state.plan.max_replans
        for each in self.state.result().tasks:
            assert self.started[each.id] == each.attempts <= self.allowed[each.id]
            assert each.state in ("done", "failed", "skipped", "cancelled")
            assert (each.failure is not None) == (each.state == "failed")
            assert each.waits_for == ()
            assert (each.state == "done") == (each.id in self.done)
            assert each.output == self.done.get(each.id), "a finished result was lost"
            if each.state == "skipped" and self.state.failed is None:
                assert _needs_one_that_ended_badly(self.state, each.id)


def _check_needs(state: PlanState, name: str) -> None:
    for need in state.task(name).needs:
        result = state.result()[need]
        is_failure_enough = final_policy(state.task(need)) == "continue" and result.state == "failed"
        assert result.state == "done" or is_failure_enough


def _needs_one_that_ended_badly(state: PlanState, name: str) -> bool:
    needs = state.task(name).needs
    return any(state.result()[need].state in ("failed", "skipped") for need in needs)
