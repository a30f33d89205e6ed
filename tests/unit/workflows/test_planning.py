"""What planners and synthesisers are asked: something of everything, and never more than a run may start with."""

from typing import Any

import pytest

from perdure.contracts.plan import AgentCard, DescribeAgentsResult, Plan, PlanResult, Task, TaskFailure
from perdure.contracts.run import RunInput
from perdure.workflows._plan_state import PlanState
from perdure.workflows._planning import replan_request, synthesis_request

KNOWN = DescribeAgentsResult(agents=(AgentCard(name="worker", description="Works."),))
MOST = 1_500_000


def state_of(count: int, *, results: str, failures: str = "no", inputs: str = "") -> PlanState:
    """Return a plan half of whose tasks are done, and the others failed."""
    tasks = (Task(id=f"t{n}", agent="worker", input=inputs, on_error="replan") for n in range(count))
    state = PlanState(Plan(tasks=tuple(tasks), planner="planner", title="All of it"))
    for number, name in enumerate(iter(state.take, None)):
        if number % 2:
            state.finish(name, results)
        else:
            state.fail(name, TaskFailure(task=name, agent="worker", type="TaskFailed", message=failures))
    return state


def asked(state: PlanState) -> RunInput:
    return replan_request(state, "", state.to_replan, KNOWN)


def text_of(request: RunInput) -> str:
    return "".join(getattr(part, "text", "") for part in request.input)


def plan_of(request: RunInput) -> Any:
    return (request.context or {})["perdure.plan"]


@pytest.mark.parametrize("letter", ["x", "长", "\x01"])
@pytest.mark.parametrize("count", [1, 100, 1000])
def test_however_much_there_is_to_tell_it_fits(letter: str, count: int) -> None:
    state = state_of(count, results=letter * 20_000, failures=letter * 5_000)
    for request in (asked(state), synthesis_request("Say.", "writer", state.result())):
        assert len(request.to_bytes()) <= MOST
        assert all(f"t{n}" in text_of(request) for n in range(count))
        assert text_of(request).count(letter * 20) >= count


def test_what_is_short_is_told_in_whole() -> None:
    state = state_of(4, results="found it", failures="it broke")
    text = text_of(asked(state))
    assert text.startswith(
        "All of it\n\nA plan for this is at work, and these tasks failed: t0, t2. Answer with a plan"
    )
    assert "t1 (worker): done\nresult: found it" in text
    assert "t2 (worker): failed\nfailure: TaskFailed: it broke" in text
    assert text_of(synthesis_request("Say.", "writer", state.result())) == (
        "Say.\n\nThis was found out:\n\n"
        "t0 failed: it broke\n\nt1:\nfound it\n\nt2 failed: it broke\n\nt3:\nfound it"
    )


def test_a_planner_is_shown_the_start_of_a_long_result() -> None:
    text = text_of(asked(state_of(2, results="y" * 5_000)))
    assert f"result: {'y' * 2_000}…\n\n" in text


def test_the_verifier_is_told_of_the_plan_and_of_states() -> None:
    base = plan_of(asked(state_of(2, results="long " * 100, failures="no " * 100)))
    assert Plan.model_validate(base["plan"]).planner == "planner"
    assert base["tasks"] == [
        {"id": "t0", "agent": "worker", "state": "failed"},
        {"id": "t1", "agent": "worker", "state": "done"},
    ]


def test_a_large_plan_leaves_less_room_for_results() -> None:
    state = state_of(1000, results="x" * 2_000, failures="y" * 2_000, inputs="z" * 1_100)
    assert len(state.plan.to_bytes()) > 1_100_000
    assert 1_200_000 < len(asked(state).to_bytes()) <= MOST


def test_results_that_are_apart_are_not_told() -> None:
    result = PlanResult(tasks=state_of(2, results="x" * 500).result(100).tasks)
    assert "t1:\n(long)" in text_of(synthesis_request("Say.", "writer", result))
