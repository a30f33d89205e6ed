"""What the server is told of a run: search attributes, written when they change, and details for the web UI."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from perdure import Agent, App, Limits, tool
from perdure._search_attributes import existing_search_attributes
from perdure.cli import cli
from perdure.cli._checks import Doctor, Finding
from perdure.client import PerdureClient
from perdure.client._cost import CostReport
from perdure.connection import connect
from perdure.contracts.messages import Message
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanRunInput
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError
from perdure.testing import ScriptedModel, calls
from tests.support.details_workflow import Own
from tests.support.workers import worker


def make_app() -> App:
    return App(agents=[Agent("clerk", model="scripted:x")], providers=[ScriptedModel(["done"])])


async def attributes_and_writes(client: PerdureClient, workflow_id: str) -> tuple[dict[str, object], list[int]]:
    """Return the attributes at the end, and the ids of the events that wrote any."""
    handle = client.temporal.get_workflow_handle(workflow_id)
    history = await handle.fetch_history()
    kind = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    found = (await handle.describe()).typed_search_attributes
    values = {pair.key.name: pair.value for pair in found if pair.key.name.startswith("Perdure")}
    return values, [event.event_id for event in history.events if event.event_type == kind]


async def test_whoever_knows_the_agent_writes_them_with_the_start(temporal: Client) -> None:
    app = make_app()
    async with worker(app, temporal) as served:
        client = PerdureClient(temporal, task_queue=served.task_queue, registry=app.registry)
        run = await client.start_agent("clerk", "go", tenant="north")
        await client.result(run.workflow_id)
    values, writes = await attributes_and_writes(client, run.workflow_id)
    assert (
        values.items() >= {"PerdureAgent": "clerk", "PerdureModel": "scripted:x", "PerdureTenant": "north"}.items()
    )
    assert values["PerdureState"] == "completed"
    assert values["PerdureTurns"] == 1
    assert len(writes) == 1


async def test_the_run_adds_what_its_starter_did_not_know(temporal: Client) -> None:
    async with worker(make_app(), temporal) as served:
        client = PerdureClient(temporal, task_queue=served.task_queue)
        run = await client.start_agent("clerk", "go")
        await client.result(run.workflow_id)
    values, writes = await attributes_and_writes(client, run.workflow_id)
    assert values["PerdureModel"] == "scripted:x"
    assert len(writes) == 2


@tool(idempotent=True)
def look(number: int) -> str:
    """Look at a page."""
    return f"page {number}"


@tool(needs_approval=True)
def pay() -> str:
    """Pay."""
    return "paid"


def _looks(request: Any, messages: list[Message]) -> Any:
    turn = sum(message.role == "assistant" for message in messages)
    return calls(("look", {"number": turn})) if turn < 9 else "done"


def dear_app() -> App:
    helper = Agent("helper", model="slow:x")
    asks = calls(("helper", {"input": "help"}))
    return App(
        agents=[
            Agent("ten", model="ten:x", tools=[look]),
            Agent("two", model="ten:x", tools=[look], limits=Limits(max_turns=2), on_limit="ask"),
            Agent("lead", model="lead:x", tools=[helper.as_tool()]),
            helper,
        ],
        providers=[
            ScriptedModel(_looks, name="ten"),
            ScriptedModel([asks, "done"], name="lead"),
            ScriptedModel(["helped"], name="slow", delay_seconds=30),
        ],
    )


DEAR = {"ten:x": {"input_usd": 1000, "output_usd": 50_000}}
"""Ten output tokens are half a dollar."""


async def details(client: PerdureClient, workflow_id: str) -> str:
    """Return what the web UI asks a worker for."""
    handle = client.temporal.get_workflow_handle(workflow_id)
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def test_ten_turns_without_a_wait_are_few_writes(temporal: Client) -> None:
    async with worker(dear_app(), temporal, prices=DEAR) as served:
        run = await served.start_agent("ten", "go")
        result = await served.result(run.workflow_id)
    values, writes = await attributes_and_writes(served, run.workflow_id)
    assert result.counters.turns == values["PerdureTurns"] == 10
    assert values["PerdureTokens"] == result.counters.usage.total_tokens
    assert values["PerdureCostUsd"] == float(result.counters.usage.cost_usd)
    assert len(writes) <= 4


async def test_a_run_that_waits_is_found_by_its_state_and_cost(temporal: Client) -> None:
    async with worker(dear_app(), temporal, prices=DEAR) as served:
        run = await served.start_agent("two", "go", tenant="south")

        async def listed(**filters: Any) -> list[str]:
            return [each.workflow_id async for each in served.list(tenant="south", **filters)]

        async with asyncio.timeout(30):
            while not await listed(state="waiting_limit", agent="two", min_cost_usd=1):
                await asyncio.sleep(0.1)
        assert await listed(state="waiting_limit", model="ten:x") == [run.workflow_id]
        assert await listed(state="waiting_limit", min_cost_usd=1000) == []
        assert await listed(state="working") == []
        (info,) = [each async for each in served.list(tenant="south")]
        assert (info.turns, info.status) == (2, "running")
        assert info.cost_usd is not None
        assert info.cost_usd >= 1
        told = await details(served, run.workflow_id)
        assert "**two** · waiting limit · turn 2" in told
        assert f"is reached · waits for: perdure limit {run.workflow_id}" in told
        assert "2 turns of 2 · 2 tool calls" in told
        await served.terminate(run.workflow_id, reason="the test is over")


async def test_the_command_line_finds_what_waits_for_approval_and_was_dear(temporal: Client) -> None:
    app = App(
        agents=[Agent("payer", model="ten:x", tools=[pay]), Agent("cheap", model="free:x", tools=[pay])],
        providers=[ScriptedModel([calls(("pay", {})), "paid"], name=name) for name in ("ten", "free")],
    )
    address = {"TEMPORAL_ADDRESS": temporal.service_client.config.target_host}

    async def listed(agent: str, cost: str) -> list[str]:
        line = f"list --state waiting_approval --agent {agent} --min-cost {cost} -o jsonl"
        result = await asyncio.to_thread(CliRunner().invoke, cli, line.split(), env=address)
        assert result.exit_code == 0, result.output
        return [json.loads(each)["workflow_id"] for each in result.stdout.splitlines()]

    prices = {**DEAR, "free:x": {"input_usd": 0, "output_usd": 0}}
    async with worker(app, temporal, prices=prices) as served:
        dear = await served.start_agent("payer", "go " * 4000)
        cheap = await served.start_agent("cheap", "go")
        async with asyncio.timeout(30):
            while not (await listed("payer", "1") and await listed("cheap", "0")):
                await asyncio.sleep(0.1)
        assert await listed("payer", "1") == [dear.workflow_id]
        assert await listed("payer", "1000") == []
        assert await listed("cheap", "1") == []
        for run in (dear, cheap):
            await served.cancel(run.workflow_id)


async def test_details_name_child_runs_with_links_where_the_address_is_known(temporal: Client) -> None:
    async with worker(dear_app(), temporal, ui_url="http://ui.example:8233", grace_period_seconds=0.1) as served:
        run = await served.start_agent("lead", "go")
        async with asyncio.timeout(30):
            while "helper-1" not in (told := await details(served, run.workflow_id)) or "/history" not in told:
                await asyncio.sleep(0.1)
        child = f"{run.workflow_id}/helper-1".replace("/", "%2F")
        assert f"- [helper-1](http://ui.example:8233/namespaces/default/workflows/{child}/" in told
        await served.terminate(run.workflow_id, reason="the test is over")


@pytest.mark.parametrize("own", ["what I say", ""])
async def test_details_of_a_users_own_workflow_stay_its_own(own: str, temporal: Client) -> None:
    app = App(
        agents=[Agent("helper", model="slow:x")],
        workflows=[Own],
        providers=[ScriptedModel(["helped"], name="slow", delay_seconds=30)],
    )
    async with worker(app, temporal, grace_period_seconds=0.1) as served:
        id = (await served.start_workflow("Own", [own])).workflow_id
        expected = own or "- helper-1 · helper"
        async with asyncio.timeout(30):
            while expected not in (told := await details(served, id)):
                await asyncio.sleep(0.1)
        assert told == (own or "Child runs\n\n- helper-1 · helper")
        await served.terminate(id, reason="the test is over")


async def test_details_of_a_plan_tell_its_tasks(temporal: Client) -> None:
    async with worker(dear_app(), temporal, grace_period_seconds=0.1) as served:
        tasks = [{"id": "a", "agent": "helper"}, {"id": "b", "agent": "helper", "needs": ["a"]}]
        plan = Plan.model_validate({"title": "Two", "tasks": [{**each, "input": "help"} for each in tasks]})
        id = (await served.start_workflow(PLAN_WORKFLOW, [PlanRunInput(plan=plan)])).workflow_id
        async with asyncio.timeout(30):
            while "1 running" not in (told := await details(served, id)) or "/a" not in told:
                await asyncio.sleep(0.1)
        assert told.startswith("**Two** · ")
        assert "1 waiting" in told
        await served.terminate(id, reason="the test is over")


BARE = "bare"
"""A namespace that nobody has registered search attributes in."""


@pytest.fixture
async def bare(server: DevServer, temporal: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    retention = Duration(seconds=86_400)
    request = RegisterNamespaceRequest(namespace=BARE, workflow_execution_retention_period=retention)
    await temporal.workflow_service.register_namespace(request)
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", BARE)
    monkeypatch.chdir(tmp_path)
    async with asyncio.timeout(30):
        while True:
            try:
                client = await connect()
                assert await existing_search_attributes(client) == set()
                return client
            except RPCError:  # the server's parts learn of a namespace one after another
                await asyncio.sleep(0.2)


async def finding(*, is_fixing: bool) -> Finding:
    """Return what doctor says of search attributes."""
    doctor = Doctor(is_fixing=is_fixing)
    await doctor.examine()
    return next(each for each in doctor.findings if each.name == "search attributes")


def _rows(report: CostReport) -> list[tuple[str, int, int]]:
    return [(row.name, row.runs, row.tokens) for row in report.rows]


async def test_a_server_without_them(bare: Client) -> None:
    async with worker(make_app(), bare) as served:
        run = await served.start_agent("clerk", "go", tenant="north")
        result = await served.result(run.workflow_id, timeout=timedelta(seconds=60))
        assert result.output == "done"
        assert await attributes_and_writes(served, run.workflow_id) == ({}, [])
        with pytest.raises(InvalidInputError, match="doctor --fix"):
            [each async for each in served.list(agent="clerk")]
        expected = [("clerk", 1, result.counters.usage.total_tokens)]
        async with asyncio.timeout(20):
            while (report := await served.cost(by="agent")) and _rows(report) != expected:
                await asyncio.sleep(0.1)  # the list learns late that the run is over
        assert report.is_partial, "workflows of the user's own can't be found there"
        found = await finding(is_fixing=False)
        assert (found.status, "PerdureState" in found.value) == ("warning", True)
        assert "registered" in (await finding(is_fixing=True)).value
        assert (await finding(is_fixing=False)).status == "ok"
