"""A conversation goes on over runs of bounded history, and every message of it survives."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, tool
from perdure.client import PerdureClient
from perdure.client._cost import CostBy
from perdure.connection import connect
from perdure.contracts.messages import Message
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from perdure.errors import ModelCallError, ModelUnavailable
from perdure.history import read_run
from perdure.testing import ScriptedModel, calls
from tests.support import fork_app
from tests.support.workers import worker

TURNS = 40
TIME = timedelta(seconds=60)


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A server that suggests Continue-As-New early."""
    config = {"limit.historyCount.suggestContinueAsNew": "60"}
    folder = tmp_path_factory.mktemp("strict")
    async with DevServer(folder, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
        yield await connect(address=server.address)


@tool(idempotent=True, local=True)
def page(number: int) -> str:
    """Return a page."""
    return f"page {number} " + "x" * 200


def _script(request: Any, messages: list[Message]) -> Any:
    turn = sum(message.role == "assistant" for message in messages)
    return "the end" if turn == TURNS else calls(("page", {"number": turn}))


def _app(model: ScriptedModel) -> App:
    agent = Agent("reader", model="scripted:x", tools=[page], limits=Limits(max_turns=100))
    return App(agents=[agent], providers=[model])


@pytest.mark.parametrize("cache_bytes", [1_000_000, 0], ids=["cached", "every lookup misses"])
async def test_a_long_conversation_takes_several_runs(strict: Client, cache_bytes: int) -> None:
    model = ScriptedModel(_script)
    async with worker(_app(model), strict, message_cache_bytes=cache_bytes) as client:
        run = await client.start_agent("reader", "read")
        result = await client.result(run.workflow_id, timeout=TIME)
        entries = await client.transcript(run.workflow_id)
        details = await client.show(run.workflow_id)
        first = await read_run(strict, run.workflow_id, run.run_id)
    assert isinstance(result, RunResult)
    assert result.output == "the end"
    assert result.counters.turns == TURNS + 1
    assert details.counters.turns == TURNS + 1
    assert details.info.run_id != run.run_id, "the run never continued as new"
    assert len(first.conversation()) < 2 * TURNS
    texts = [entry.message.parts[0] for entry in entries if entry.message.role == "tool"]
    assert [part.content[0].text.split()[1] for part in texts if part.kind == "tool_result"] == [  # pyright: ignore[reportAttributeAccessIssue]
        str(number) for number in range(TURNS)
    ]
    assert [entry.slot for entry in entries] == list(range(2 * TURNS + 2))
    assert len(model.requests) == TURNS + 1, "a model call was repeated"


async def test_watch_follows_the_chain(strict: Client) -> None:
    async with worker(_app(ScriptedModel(_script)), strict) as client:
        run = await client.start_agent("reader", "read")
        events = [event async for event in client.watch(run.workflow_id)]
    slots = [event.entry.slot for event in events if event.entry is not None]
    assert slots == list(range(2 * TURNS + 2))
    assert any(event.kind == "continued" for event in events)
    assert events[-1].kind == "closed"
    assert events[-1].info is not None
    assert events[-1].info.status == "completed"


async def test_what_a_chain_cost_counts_once(strict: Client) -> None:
    """With both of the models that were asked, the first of which the chain's last run has never asked."""

    def first(request: Any, messages: list[Message]) -> Any:
        turn = sum(message.role == "assistant" for message in messages)
        return ModelCallError("no quota", kind="fatal") if turn > 5 else _script(request, messages)

    limits = Limits(max_turns=100)
    mixed = Agent("mixed", model=["first:x", "second:x"], tools=[page], limits=limits)
    single = Agent("single", model="second:x", tools=[page], limits=limits)
    models = [ScriptedModel(first, name="first"), ScriptedModel(_script, name="second")]
    async with worker(App(agents=[mixed, single], providers=models), strict) as client:
        used: dict[str, int] = {}
        for name in ("mixed", "single"):
            run = await client.start_agent(name, "read")
            result = await client.result(run.workflow_id, timeout=TIME)
            assert (await client.show(run.workflow_id)).info.run_id != run.run_id, "it never continued as new"
            used[name] = result.counters.usage.total_tokens
        agents = await _costs(client, "agent", {"mixed", "single"})
        by_model = await _costs(client, "model", {"first:x", "second:x"})
    assert {name: agents[name] for name in used} == used
    assert "" not in agents, "the last run of a chain has lost whose it is"
    assert by_model["first:x"] + by_model["second:x"] == sum(used.values())
    assert 0 < by_model["first:x"] < by_model["second:x"]


async def _costs(client: PerdureClient, by: CostBy, names: set[str]) -> dict[str, int]:
    """Return the tokens of each row, once the server's list has all of the runs."""
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            report = await client.cost(by=by)
            rows = {row.name: row.tokens for row in report.rows}
            if names <= rows.keys() and not report.total.open:
                return rows
            await asyncio.sleep(0.2)


async def test_each_of_its_turns_can_be_forked(strict: Client) -> None:
    """Turns of before a handoff are in the history of an earlier run of the chain."""
    async with worker(fork_app.app, strict, message_cache_bytes=0) as client:
        run = await client.start_agent("first", "go")
        expected = (await client.result(run.workflow_id, timeout=TIME)).output
        assert (await client.show(run.workflow_id)).info.run_id != run.run_id, "the run never continued as new"
        for turn in (1, 2, 5, 9):
            fork_app.forget()
            made = await client.fork(run.workflow_id, turn=turn)
            result = await client.result(made.workflow_id, timeout=TIME)
            assert result.output == expected
            assert fork_app.asked == Counter(f"a:{n}" for n in range(turn + 1, fork_app.TURNS + 1)), f"turn {turn}"
            assert result.counters.handoffs == ("first",)


async def test_a_run_that_failed_after_that_goes_on(strict: Client) -> None:
    """The run that failed holds the whole conversation: nothing of those before it is needed."""
    failing = [30]

    def script(request: Any, messages: list[Message]) -> Any:
        turn = sum(message.role == "assistant" for message in messages)
        return ModelCallError("no quota", kind="fatal") if turn in failing else _script(request, messages)

    model = ScriptedModel(script)
    async with worker(_app(model), strict) as client:
        run = await client.start_agent("reader", "read")
        with pytest.raises(ModelUnavailable):
            await client.result(run.workflow_id, timeout=TIME)
        assert (await client.show(run.workflow_id)).info.run_id != run.run_id, "the run never continued as new"
        failing.clear()
        await client.rerun(run.workflow_id)
        result = await client.result(run.workflow_id, timeout=TIME)
        entries = await client.transcript(run.workflow_id)
    assert (result.output, result.counters.turns) == ("the end", TURNS + 1)
    assert [entry.slot for entry in entries] == list(range(2 * TURNS + 2))
    assert len(model.requests) == TURNS + 2, "a model call was repeated, beside the one that failed"
