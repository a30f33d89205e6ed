"""A fork begins with the first turns of another run: nothing of them is asked, paid or done again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from perdure import Limits
from perdure.client import PerdureClient
from perdure.contracts.fork import ForkedFrom
from perdure.contracts.names import FORK_MEMO
from perdure.errors import InvalidInputError, LimitExceeded, RunExistsError, RunNotFoundError, UnknownModelError
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from tests.support import fork_app
from tests.support.fork_app import PRICES, TURNS, app, asked, effects, hanging
from tests.support.workers import worker

TIME = timedelta(seconds=60)
CARDS = ", ".join(f"card {number}" for number in range(1, TURNS))
ANSWER = f"Deal. go: {CARDS}"


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal, prices=PRICES, grace_period_seconds=0.1) as running:
        yield running


@pytest.fixture(scope="module")
async def done(client: PerdureClient) -> str:
    """A run of ten turns that is over."""
    run = await client.start_agent("dealer", "go", tenant="t", limits=Limits(max_cost_usd=Decimal(1)))
    assert (await client.result(run.workflow_id, timeout=TIME)).output == ANSWER
    return run.workflow_id


@pytest.fixture(autouse=True)
def _fresh(done: str) -> None:
    fork_app.forget()


async def output(client: PerdureClient, workflow_id: str) -> Any:
    return (await client.result(workflow_id, timeout=TIME)).output


def only(turns: range, model: str = "a") -> Counter[str]:
    return Counter(f"{model}:{turn}" for turn in turns)


@pytest.mark.parametrize("turn", range(TURNS))
async def test_each_turn_of_a_run_that_is_over(client: PerdureClient, done: str, turn: int) -> None:
    made = await client.fork(done, turn=turn)
    result = await client.result(made.workflow_id, timeout=TIME)
    assert result.output == ANSWER
    assert asked == only(range(turn + 1, TURNS + 1)), "a turn that was copied was paid again"
    assert [number for number, _ in effects] == list(range(turn + 1, TURNS))
    counters = result.counters
    assert (counters.turns, counters.copied_turns, counters.tool_calls) == (TURNS - turn, turn, TURNS - 1 - turn)
    assert (made.turn, made.messages) == (turn, 2 * turn + 1)
    entries = await client.transcript(made.workflow_id)
    assert [entry.slot for entry in entries] == list(range(2 * TURNS))
    assert [entry.usage is not None for entry in entries if entry.message.role == "assistant"] == [
        number > turn for number in range(1, TURNS + 1)
    ]


async def test_what_others_see_of_it(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=8, id=f"{done}-other")
    await client.result(made.workflow_id, timeout=TIME)
    source, fork = await client.show(done), await client.show(made.workflow_id)
    assert fork.forked == ForkedFrom(workflow_id=done, run_id=source.info.run_id, turn=8)
    assert (fork.counters.turns, fork.counters.copied_turns, fork.input) == (2, 8, "go")
    paid, all_paid = fork.counters.usage.cost_usd, source.counters.usage.cost_usd
    assert paid is not None
    assert all_paid is not None
    assert 0 < paid < all_paid / 2
    described = await client.temporal.get_workflow_handle(made.workflow_id).describe()
    assert (await described.memo())[FORK_MEMO]["workflow_id"] == done
    assert await described.static_summary() == f"dealer: fork of {done} at turn 8"
    attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    assert (
        attributes.items() >= {"PerdureAgent": "dealer", "PerdureTenant": "t", "PerdureState": "completed"}.items()
    )
    with pytest.raises(RunExistsError, match="needs an id of its own"):
        await client.fork(done, turn=8, id=done)


async def test_limits_count_what_the_fork_does(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=5, limits=Limits(max_turns=TURNS - 5, max_tool_calls=5))
    assert await output(client, made.workflow_id) == ANSWER
    fork_app.forget()
    made = await client.fork(done, turn=5, limits=Limits(max_turns=2))
    with pytest.raises(LimitExceeded, match="max_turns=2"):
        await client.result(made.workflow_id, timeout=TIME)
    assert asked == only(range(6, 9)), "two turns, and the last call"


async def test_keys_are_new(client: PerdureClient, done: str) -> None:
    first = await client.fork(done, turn=7)
    await output(client, first.workflow_id)
    second = await client.fork(done, turn=7)
    await output(client, second.workflow_id)
    assert len({key for _, key in effects}) == len(effects) == 4


async def test_another_model_and_other_instructions(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=7, model="deal:b", instructions="Deal well.")
    assert made.changes == ("model deal:b", "instructions")
    assert await output(client, made.workflow_id) == f"Deal well. go: {CARDS}"
    assert asked == only(range(8, TURNS + 1), "b")
    shown = await client.show(made.workflow_id)
    assert shown.models == ("deal:b",)
    assert shown.counters.usage.cost_usd is not None
    with pytest.raises(UnknownModelError, match="has no provider"):
        await client.fork(done, turn=7, model="deal")
    unknown = await client.fork(done, turn=7, model="nobody:x")
    with pytest.raises(UnknownModelError):
        await client.result(unknown.workflow_id, timeout=TIME)


async def test_a_result_is_replaced(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=4, tool_results={"draw": "the joker"})
    assert await output(client, made.workflow_id) == ANSWER.replace("card 4", "the joker")
    assert asked == only(range(5, TURNS + 1))
    long = "x" * 10_000  # looked up in the run's input, rather than sent along
    made = await client.fork(done, turn=4, tool_results={"call_0": long})
    assert await output(client, made.workflow_id) == ANSWER.replace("card 4", long)
    with pytest.raises(InvalidInputError, match=r"Its calls: call_0 \(draw\)"):
        await client.fork(done, turn=4, tool_results={"shuffle": "x"})


async def test_a_message(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=9, message="and count them")
    assert await output(client, made.workflow_id) == f"Deal. go + and count them: {CARDS}"
    made = await client.fork(done, turn=0, message="other input")
    assert await output(client, made.workflow_id) == f"Deal. other input: {CARDS}"
    assert asked["a:10"] == 2


async def test_an_answer_is_gone_on_from(client: PerdureClient, done: str) -> None:
    with pytest.raises(InvalidInputError, match=r"Turn 10 is the answer: say what comes next with --mess"):
        await client.fork(done, turn=10)
    made = await client.fork(done, turn=10, message="again")
    assert await output(client, made.workflow_id) == f"Deal. go + again: {CARDS}"
    assert asked == only(range(11, 12))
    assert (await client.fork(done)).turn == 9, "the last turn after which there is something to do"
    assert (await client.fork(done, message="more")).turn == 10


async def test_a_fork_of_a_fork(client: PerdureClient, done: str) -> None:
    first = await client.fork(done, turn=3, tool_results={"draw": "an ace"})
    await output(client, first.workflow_id)
    fork_app.forget()
    second = await client.fork(first.workflow_id, turn=6)
    assert await output(client, second.workflow_id) == ANSWER.replace("card 3", "an ace")
    assert asked == only(range(7, TURNS + 1))


async def test_an_open_run(client: PerdureClient) -> None:
    """The other run goes its own way. What hangs in it isn't waited for, and can be given."""
    hanging.add(6)
    run = await client.start_agent("dealer", "go")
    await _until(lambda: 6 in {number for number, _ in effects})
    with pytest.raises(InvalidInputError, match=r"Turn 6 has no result of call_0 \(draw\): fork at turn 5, or"):
        await client.fork(run.workflow_id, turn=6)
    given = await client.fork(run.workflow_id, turn=6, tool_results={"draw": "by hand"})
    assert await output(client, given.workflow_id) == ANSWER.replace("card 6", "by hand")
    earlier = await client.fork(run.workflow_id, turn=2)
    late = await client.fork(run.workflow_id)
    assert late.turn == 5
    hanging.clear()
    for workflow_id in (run.workflow_id, earlier.workflow_id, late.workflow_id):
        assert await output(client, workflow_id) == ANSWER
    assert (asked["a:1"], asked["a:3"], asked["a:6"], asked["a:7"]) == (1, 2, 3, 4)


async def test_a_fork_that_failed_is_started_again(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=8, limits=Limits(max_tool_calls=3))
    hanging.add(9)
    await _until(lambda: 9 in {number for number, _ in effects})
    await client.terminate(made.workflow_id, reason="the test")
    hanging.clear()
    await client.rerun(made.workflow_id)
    result = await client.result(made.workflow_id, timeout=TIME)
    assert (result.output, result.counters.copied_turns, result.counters.turns) == (ANSWER, 8, 2)
    assert asked == only(range(9, TURNS + 1))
    assert (await client.show(made.workflow_id)).forked is not None


async def test_what_cannot_be_forked(client: PerdureClient, done: str) -> None:
    with pytest.raises(InvalidInputError, match=r"has 10 turns: it can't be forked at turn 11"):
        await client.fork(done, turn=11, message="x")
    with pytest.raises(RunNotFoundError):
        await client.fork("nobody", turn=1)
    with pytest.raises(InvalidInputError, match="It calls no tool"):
        await client.fork(done, turn=0, tool_results={"draw": "x"})


async def test_a_fork_replays(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=4, tool_results={"draw": "x"}, message="go on", model="deal:b")
    await output(client, made.workflow_id)
    replayer = Replayer(
        workflows=[AgentWorkflow],
        interceptors=[PerdureInterceptor()],
        data_converter=pydantic_data_converter,
        unsandboxed_workflow_runner=UnsandboxedWorkflowRunner(),
    )
    await replayer.replay_workflow(await client.temporal.get_workflow_handle(made.workflow_id).fetch_history())


async def test_two_runs_are_compared(client: PerdureClient, done: str) -> None:
    made = await client.fork(done, turn=7, tool_results={"draw": "the joker"}, model="deal:b")
    await output(client, made.workflow_id)
    found = await client.diff(done, made.workflow_id)
    assert (found.common_messages, found.common_turns) == (14, 6)
    assert found.parting is not None
    assert (found.parting.turn, found.parting.where) == (7, "result")
    texts = [message.parts[0].content[0].text for message in (found.parting.a[0], found.parting.b[0])]  # pyright: ignore[reportAttributeAccessIssue]
    assert texts == ["card 7", "the joker"]
    assert (found.a.turns_since, found.b.turns_since) == (3, 3)
    assert (found.a.counters.turns, found.b.counters.turns, found.b.counters.copied_turns) == (10, 3, 7)
    assert found.a.usage_since is not None
    assert found.b.usage_since == found.b.counters.usage, "a fork pays for what is new alone"
    assert found.a.usage_since.input_tokens < found.a.counters.usage.input_tokens
    assert (found.a.output, found.b.output) == (ANSWER, ANSWER.replace("card 7", "the joker"))
    assert found.b.forked is not None
    assert (await client.diff(done, done)).parting is None
    other = await client.fork(done, turn=7, instructions="Deal otherwise.")
    await output(client, other.workflow_id)
    parting = (await client.diff(done, other.workflow_id)).parting
    assert parting is not None
    assert (parting.turn, parting.where) == (10, "reply")
    said = await client.fork(done, turn=7, message="faster")
    await output(client, said.workflow_id)
    parting = (await client.diff(said.workflow_id, done)).parting
    assert parting is not None
    assert (parting.turn, parting.where, parting.a[0].text) == (8, "reply", "faster")
    with pytest.raises(RunNotFoundError):
        await client.diff(done, "nobody")


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.02)
