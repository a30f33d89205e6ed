"""Plans on a real server: order, data, every policy of failure, cancellation, sizes, replay."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure.client import PerdureClient
from perdure.contracts.names import PLAN_QUERY, PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, PlanStatus, RetryWith, Task
from perdure.errors import InvalidPlanError, PlanFailed, RunCancelled
from perdure.wiring import sandboxed_runner
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.plan_workflow import PlanWorkflow
from tests.support.plan_app import app
from tests.support.plan_workflows import TwoPlans
from tests.support.workers import worker

TIME = timedelta(seconds=60)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


def task(id: str, *needs: str, **fields: Any) -> Task:
    given: dict[str, Any] = {"agent": "worker", "needs": needs, "input": id, **fields}
    return Task(id=id, **given)


async def start(client: PerdureClient, *tasks: Task, **options: Any) -> str:
    request = PlanRunInput(plan=Plan(tasks=tasks), **options)
    return (await client.start_workflow(PLAN_WORKFLOW, [request])).workflow_id


async def end(client: PerdureClient, workflow_id: str) -> PlanResult:
    return PlanResult.model_validate(await client.result(workflow_id, timeout=TIME))


async def run(client: PerdureClient, *tasks: Task, **options: Any) -> PlanResult:
    return await end(client, await start(client, *tasks, **options))


def states(result: PlanResult | PlanStatus) -> dict[str, str]:
    return {each.id: each.state for each in result.tasks}


async def test_tasks_wait_for_their_needs_and_get_their_results(client: PerdureClient) -> None:
    result = await run(
        client,
        task("end", "left", "right", input=r"{{left}} {{right}} {{page.lines.1}} \{{x}}"),
        task("left", "page", input="{{page.title}}"),
        task("right", "page", input="{{page}}"),
        task("page", agent="pager"),
    )
    assert set(states(result).values()) == {"done"}
    right = '<{"title": "T", "lines": ["one", "two"]}>'
    assert result.outputs["end"] == f"<<T> {right} two {{{{x}}}}>"
    assert result["page"].output == {"title": "T", "lines": ["one", "two"]}


async def test_no_task_waits_for_more_than_its_needs(client: PerdureClient) -> None:
    """There are no levels: what needs only quick ones is done while a slow one is at work."""
    workflow_id = await start(client, task("a"), task("slow", agent="slow"), task("b", "a"), task("c", "b"))
    status = await _until(client, workflow_id, c="done")
    assert states(status) == {"a": "done", "slow": "running", "b": "done", "c": "done"}
    await client.cancel(workflow_id)


async def test_a_plan_is_a_step_of_a_workflow(client: PerdureClient) -> None:
    plan = Plan(tasks=(task("a"), task("b", "a", input="{{a}}"), task("c")))
    bad = Plan(tasks=(task("a", "b", agent="wroker"), task("b", "a", "c")))
    run = await client.start_workflow("TwoPlans", [plan, bad])
    told: Any = await client.result(run.workflow_id, timeout=TIME)
    first, second = told
    assert PlanResult.model_validate(first).outputs == {"a": "<a>", "b": "<<a>>", "c": "<c>"}
    assert second.splitlines() == [
        "InvalidPlanError: The plan has 3 faults:",
        "- Task 'a': there is no agent 'wroker'. Did you mean 'worker'?",
        "- Task 'b' needs 'c', and there is no such task. Known: a, b.",
        "- Tasks wait for each other: a → b → a.",
    ]


async def test_of_an_invalid_plan_nothing_runs(client: PerdureClient) -> None:
    workflow_id = await start(client, task("a"), task("b", "a", agent="nobody"))
    with pytest.raises(InvalidPlanError, match="no agent 'nobody'") as raised:
        await end(client, workflow_id)
    assert raised.value.attributes["faults"][0]["path"] == ["tasks", 1, "agent"]
    assert "CHILD_WORKFLOW" not in (await _history(client, workflow_id)).to_json()


CHAIN = ("root", "middle", "leaf")


@pytest.mark.parametrize("failing", CHAIN)
@pytest.mark.parametrize("policy", ["fail", "skip_dependents", "continue", "retry", "retry in vain"])
async def test_each_policy_at_each_place(client: PerdureClient, failing: str, policy: str) -> None:
    """A chain in which one task fails, and a task beside it that does not."""
    policies: dict[str, Any] = {
        "retry": RetryWith(retry_with="expert"),
        "retry in vain": RetryWith(retry_with="late", then="continue"),
    }
    needs = {"root": (), "middle": ("root",), "leaf": ("middle",)}
    tasks = [
        task(name, *needs[name], input="go" + "".join(f" {{{{{need}}}}}" for need in needs[name]))
        for name in CHAIN
    ]
    position = CHAIN.index(failing)
    tasks[position] = task(failing, *needs[failing], input="fail", on_error=policies.get(policy, policy))
    workflow_id = await start(client, *tasks, task("beside"))
    if policy == "fail":
        await _check_failed(client, workflow_id, failing)
        return
    result = await end(client, workflow_id)
    after = {name: "skipped" if policy == "skip_dependents" else "done" for name in CHAIN[position + 1 :]}
    ended = "done" if policy == "retry" else "failed"
    before = dict.fromkeys(CHAIN[:position], "done")
    assert states(result) == {**before, failing: ended, **after, "beside": "done"}
    assert result[failing].attempts == (2 if policy.startswith("retry") else 1)
    assert result[failing].agent == {"retry": "expert", "retry in vain": "late"}.get(policy, "worker")
    if policy in ("continue", "retry in vain") and failing != "leaf":
        assert '{"error": {"task": "' + failing in str(result[CHAIN[position + 1]].output)


async def _check_failed(client: PerdureClient, workflow_id: str, failing: str) -> None:
    with pytest.raises(PlanFailed, match=f"task '{failing}': agent 'worker': 1 replies in a row") as raised:
        await end(client, workflow_id)
    known = raised.value.attributes
    assert (known["task"], known["agent"], known["failure"]) == (failing, "worker", "UnexpectedModelBehavior")
    assert known["workflow_id"] == f"{workflow_id}/plan-1/{failing}"
    position = CHAIN.index(failing)
    found = [known["states"][name] for name in CHAIN]
    assert found == ["done"] * position + ["failed"] + ["skipped"] * (2 - position)
    assert set(known["results"]) >= set(CHAIN[:position])


async def test_two_failures_at_once_are_both_entered(client: PerdureClient) -> None:
    result = await run(
        client,
        task("a", input="fail", on_error="skip_dependents"),
        task("b", input="fail", on_error="continue"),
        task("c", "a", "b"),
        task("d", "b", input="{{b.title}}"),
    )
    assert states(result) == {"a": "failed", "b": "failed", "c": "skipped", "d": "done"}
    assert [each.type for each in result.failures] == ["UnexpectedModelBehavior"] * 2


async def test_a_failure_cancels_the_rest_and_waits_for_it(client: PerdureClient) -> None:
    slow = [task(f"slow{n}", agent="slow") for n in range(5)]
    workflow_id = await start(client, task("done"), task("bad", "done", agent="late", input="fail"), *slow)
    with pytest.raises(PlanFailed) as raised:
        await end(client, workflow_id)
    known = raised.value.attributes
    assert known["states"] == {"done": "done", "bad": "failed", **{each.id: "cancelled" for each in slow}}
    assert known["results"] == {"done": "<done>"}
    for each in slow:
        assert await _status(client, f"{workflow_id}/plan-1/{each.id}") == "canceled"


async def test_cancelling_reaches_every_task(client: PerdureClient) -> None:
    slow = [task(f"slow{n}", agent="slow") for n in range(20)]
    workflow_id = await start(client, task("first"), *slow, task("last", "slow0"))
    await _until(client, workflow_id, first="done", slow19="running")
    await asyncio.sleep(1)
    await client.cancel(workflow_id)
    with pytest.raises(RunCancelled):
        await end(client, workflow_id)
    assert await _status(client, workflow_id) == "canceled"
    for each in slow:
        assert await _status(client, f"{workflow_id}/plan-1/{each.id}") == "canceled"
    status = await _plan(client, workflow_id)
    assert states(status) == {"first": "done", **{each.id: "cancelled" for each in slow}, "last": "skipped"}


async def test_a_task_that_somebody_cancels_has_failed(client: PerdureClient) -> None:
    workflow_id = await start(client, task("a", agent="slow", on_error="continue"), task("b", "a", input="{{a}}"))
    await _until(client, workflow_id, a="running")
    await _cancel_soon(client, f"{workflow_id}/plan-1/a")
    result = await end(client, workflow_id)
    assert states(result) == {"a": "failed", "b": "done"}
    assert [(each.type, each.message) for each in result.failures] == [
        ("RunCancelled", "agent 'slow': its run was cancelled.")
    ]


async def test_a_large_result_is_read_where_it_is_referred_to(client: PerdureClient) -> None:
    result = await run(client, task("a", input="long 400000"), task("b", "a", input="{{a}}"))
    assert (result["a"].output, result["a"].is_output_apart) == (None, True)
    assert result["b"].output == "<400000 characters>"


async def test_inputs_leave_in_batches(client: PerdureClient) -> None:
    """Thirty inputs of 240 kB at once would be over the limit of a message, and the server would end the run."""
    readers = [task(f"r{n}", "a", input="{{a}}") for n in range(30)]
    result = await run(client, task("a", input="long 240000"), *readers)
    assert {str(result[each.id].output) for each in readers} == {"<240000 characters>"}


async def test_many_long_failures_are_told_in_short(client: PerdureClient) -> None:
    """In whole they would be more than a payload may take, and the plan would never end."""
    result = await run(client, *(task(f"t{n}", input="wail", on_error="continue") for n in range(75)))
    assert len(result.failures) == 75
    assert all(each.message.startswith("agent 'worker': do:x: \x01\x01\x01") for each in result.failures)
    assert 150_000 < len(result.to_bytes()) < 500_000


async def test_an_input_that_is_too_large_names_the_task(client: PerdureClient) -> None:
    long = [task(name, input="long 200000") for name in "abcdefgh"]
    with pytest.raises(PlanFailed, match=r"task 'last': agent 'worker' was not started: .* takes 16\d+ bytes"):
        await run(
            client, *long, task("last", *"abcdefgh", input="".join(f"{{{{{name}}}}}" for name in "abcdefgh"))
        )


async def test_a_missing_field_is_named(client: PerdureClient) -> None:
    with pytest.raises(
        PlanFailed, match=r"task 'b': agent 'worker' was not started: \{\{a.titel\}\} of its input"
    ):
        await run(client, task("a", agent="pager"), task("b", "a", input="{{a.titel}}"))


async def test_many_tasks_make_a_short_history(client: PerdureClient) -> None:
    layers = [task(f"t{n}", *([f"t{n - 20}"] if n >= 20 else [])) for n in range(50)]
    workflow_id = await start(client, *layers, max_parallel=30)
    assert set(states(await end(client, workflow_id)).values()) == {"done"}
    history = await _history(client, workflow_id)
    assert len(history.events) < 50 * 12
    assert len(history.to_json()) < 500_000


@pytest.mark.parametrize("ending", ["done", "failed", "cancelled"])
async def test_it_replays_in_the_sandbox(client: PerdureClient, ending: str) -> None:
    last = task("last", "a", "b", "slow", input="{{b}} {{a}}" if ending == "done" else "fail")
    slow = task("slow", agent="slow" if ending == "cancelled" else "worker")
    workflow_id = await start(client, task("a"), task("b", input="fail", on_error="continue"), slow, last)
    if ending == "cancelled":
        await _until(client, workflow_id, b="failed")
        await client.cancel(workflow_id)
    if ending == "done":
        await end(client, workflow_id)
    else:
        with pytest.raises((PlanFailed, RunCancelled)):
            await end(client, workflow_id)
    await _replay(await _history(client, workflow_id))


async def test_a_workflow_with_plans_replays(client: PerdureClient) -> None:
    plan = Plan(tasks=(task("a"), task("b", "a", input="{{a}}"), task("c", input="fail")))
    run = await client.start_workflow("TwoPlans", [plan, plan])
    await client.result(run.workflow_id, timeout=TIME)
    await _replay(await _history(client, run.workflow_id))


async def _replay(history: WorkflowHistory) -> None:
    runner = sandboxed_runner()
    replayer = Replayer(
        workflows=[PlanWorkflow, TwoPlans],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor()],
        workflow_runner=runner,
        unsandboxed_workflow_runner=runner,
    )
    await replayer.replay_workflow(history)


async def _history(client: PerdureClient, workflow_id: str) -> WorkflowHistory:
    return await client.temporal.get_workflow_handle(workflow_id).fetch_history()


async def _status(client: PerdureClient, workflow_id: str) -> str:
    return (await client.show(workflow_id)).info.status


async def _plan(client: PerdureClient, workflow_id: str) -> PlanStatus:
    return PlanStatus.model_validate(await client.query(workflow_id, PLAN_QUERY))


async def _until(client: PerdureClient, workflow_id: str, **wanted: str) -> PlanStatus:
    for _ in range(200):
        if (answer := await client.query(workflow_id, PLAN_QUERY)) is not None:
            status = PlanStatus.model_validate(answer)
            if wanted.items() <= states(status).items():
                return status
        await asyncio.sleep(0.1)
    raise AssertionError(f"the plan never came to {wanted}")


async def _cancel_soon(client: PerdureClient, workflow_id: str) -> None:
    await asyncio.sleep(1)
    await client.cancel(workflow_id)
