"""Conversations that outgrow the context window: they go on, what matters survives, and nothing said is lost."""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from perdure import Agent, App, Compaction, Limits, tool
from perdure.activities._compacting import SUMMARY_INSTRUCTIONS
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.messages import Message
from perdure.devserver import DevServer
from perdure.errors import ModelCallError, ModelUnavailable
from perdure.providers.base import ModelRequest
from perdure.testing import ScriptedModel, calls
from tests.support.workers import worker

TURNS = 30
WINDOW = 2500
TIME = timedelta(seconds=60)
FACT = "the code word is heliotrope-7"


@tool(idempotent=True, local=True)
def page(number: int) -> str:
    """Return a page."""
    fact = f" {FACT}" if number == 2 else ""
    return f"page {number}{fact} " + "x" * 400


def told(messages: Sequence[Message]) -> str:
    return "\n".join(message.model_dump_json() for message in messages)


def summarise(text: str) -> str:
    """Keep what a careful summariser would: the facts, and how far it came."""
    facts = sorted(set(re.findall(r"the code word is [a-z]+-\d", text)))
    pages = [int(number) for number in re.findall(r"page (\d+)", text)]
    return f"{'; '.join(facts)}. Last read: page {max(pages)}"


class Reader:
    """Reads page after page; how far it is, it knows from what it is shown alone."""

    def __init__(self, turns: int = TURNS, *, refuses_over: int | None = None) -> None:
        self.longest = 0
        self.summaries = 0
        self.refusals = 0
        self._turns = turns
        self._refuses_over = refuses_over
        self.model = ScriptedModel(self._reply)
        self.cheap = ScriptedModel(self._reply, name="cheap")

    def _reply(self, request: ModelRequest, messages: list[Message]) -> Any:
        size = sum(len(fragment.body) for fragment in request.fragments) // 4
        if self._refuses_over is not None and size > self._refuses_over:
            self.refusals += 1
            return ModelCallError("prompt is too long", kind="context_too_long")
        if request.instructions == SUMMARY_INSTRUCTIONS:
            self.summaries += 1
            return summarise(messages[0].text)
        self.longest = max(self.longest, size)
        text = told(messages)
        last = max((int(number) for number in re.findall(r"page (\d+)", text)), default=-1)
        if last + 1 < self._turns:
            return calls(("page", {"number": last + 1}))
        return (
            f"Read {last + 1} pages; {'; '.join(sorted(set(re.findall(r'the code word is [a-z]+-[0-9]', text))))}"
        )

    def app(self, **values: Any) -> App:
        values.setdefault("context_window_tokens", WINDOW)
        agent = Agent(
            "reader",
            model="scripted:x",
            tools=[page],
            limits=Limits(max_turns=10 * self._turns, max_repeats=1000),
            compaction=Compaction(**values),
        )
        return App(agents=[agent], providers=[self.model, self.cheap])


async def read(client: PerdureClient) -> tuple[str, Any]:
    run = await client.start_agent("reader", "Read all pages.", id=f"reader-{uuid4().hex[:8]}")
    return run.workflow_id, await client.result(run.workflow_id, timeout=TIME)


def pages(messages: Sequence[Message]) -> list[str]:
    return re.findall(r'"text":"page (\d+)', told([each for each in messages if each.role == "tool"]))


@pytest.mark.parametrize("cache_bytes", [10_000_000, 0], ids=["cached", "every lookup misses"])
async def test_a_planted_fact_survives_summaries(temporal: Client, cache_bytes: int) -> None:
    reader = Reader()
    app = reader.app(by="summarise", model="cheap:x")
    async with worker(app, temporal, message_cache_bytes=cache_bytes) as client:
        workflow_id, result = await read(client)
        entries = await client.transcript(workflow_id)
        full = await client.full_transcript(workflow_id)
        details = await client.show(workflow_id)
        events = [event async for event in client.watch(workflow_id) if event.entry is not None]
    assert result.output == f"Read {TURNS} pages; {FACT}"
    assert reader.summaries >= 3, "room was never made"
    assert reader.longest <= WINDOW * 3 // 4, "the reply has a quarter of the window"
    assert result.counters.turns == TURNS + 1
    assert result.counters.model_calls == TURNS + 1 + reader.summaries
    assert details.counters == result.counters.model_copy(update={"handoffs": ()})
    assert FACT in told([entry.message for entry in entries])
    assert len(entries) < TURNS
    said = [entry.message for entry in full.entries]
    assert pages(said) == [str(number) for number in range(TURNS)], "each message once, in order"
    assert sum(message.author == "perdure" for message in said) == reader.summaries
    assert [event.entry.message for event in events if event.entry] == said


async def test_results_are_dropped(temporal: Client) -> None:
    reader = Reader()
    app = reader.app(by="drop_tool_results", context_window_tokens=4500)
    async with worker(app, temporal) as client:
        workflow_id, result = await read(client)
        entries = await client.transcript(workflow_id)
        full = await client.full_transcript(workflow_id)
        history = await temporal.get_workflow_handle(workflow_id).fetch_history()
    assert result.output.startswith(f"Read {TURNS} pages")
    assert "cut by perdure" in told([entry.message for entry in entries])
    assert pages([entry.message for entry in full.entries]) == [str(number) for number in range(TURNS)]
    scheduled = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history.events]
    assert "perdure.compact" in scheduled
    assert reader.summaries == 0, "dropping was enough"


async def test_a_vendor_that_says_the_prompt_is_too_long_is_asked_again(temporal: Client) -> None:
    """Nothing is known of the window: room is made when the vendor says so, for the summariser too."""
    reader = Reader(refuses_over=1200)
    app = reader.app(by="summarise", context_window_tokens=None)
    async with worker(app, temporal) as client:
        workflow_id, result = await read(client)
        full = await client.full_transcript(workflow_id)
    assert result.output == f"Read {TURNS} pages; {FACT}"
    assert reader.refusals >= 2, "the vendor never refused"
    assert pages([entry.message for entry in full.entries]) == [str(number) for number in range(TURNS)]


async def test_a_conversation_that_cannot_be_made_shorter_fails_with_the_reason(temporal: Client) -> None:
    reader = Reader(refuses_over=1)
    async with worker(reader.app(context_window_tokens=None), temporal) as client:
        with pytest.raises(ModelUnavailable, match=r"No more room can be made.*prompt is too long"):
            await read(client)
    assert 1 <= reader.refusals <= 8, "bounded"


async def test_without_compaction_the_vendors_word_ends_the_run(temporal: Client) -> None:
    reader = Reader(refuses_over=1000)
    async with worker(reader.app(by=(), context_window_tokens=None), temporal) as client:
        with pytest.raises(ModelUnavailable, match=r": scripted:x: prompt is too long"):
            await read(client)
    assert reader.refusals == 1


def keep_ends(messages: list[Message], target_tokens: int) -> list[Message]:
    return [messages[0], *messages[-2:]]


async def test_a_function_of_the_users_decides(temporal: Client) -> None:
    reader = Reader()
    async with worker(reader.app(by=keep_ends), temporal) as client:
        workflow_id, result = await read(client)
        full = await client.full_transcript(workflow_id)
    assert result.output == f"Read {TURNS} pages; "
    assert pages([entry.message for entry in full.entries]) == [str(number) for number in range(TURNS)]


async def test_summaries_are_paid_from_the_runs_limits(temporal: Client) -> None:
    reader = Reader()
    app = reader.app(by="summarise")
    async with worker(app, temporal) as client:
        run = await client.start_agent("reader", "Read.", limits=Limits(max_total_tokens=10_000_000))
        result = await client.result(run.workflow_id, timeout=TIME)
        details = await client.show(run.workflow_id)
    assert reader.summaries >= 3
    assert details.money is not None
    assert details.money.spent.tokens == result.counters.usage.total_tokens


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A server that suggests Continue-As-New early."""
    config = {
        "limit.historyCount.suggestContinueAsNew": "40",
        "history.visibilityProcessorEnsureCloseBeforeDelete": "false",
        "history.transferProcessorEnsureCloseBeforeDelete": "false",
    }
    folder = tmp_path_factory.mktemp("context")
    async with DevServer(folder, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
        yield await connect(address=server.address)


async def test_epochs_go_on_over_runs_of_a_chain(strict: Client) -> None:
    failing = [True]
    reader = Reader(refuses_over=2000)
    inner = reader.model._script
    assert callable(inner)

    def script(request: ModelRequest, messages: list[Message]) -> Any:
        if "page 20" in told(messages) and request.tools and failing:
            return ModelCallError("no quota", kind="fatal")
        return inner(request, messages)

    reader.model._script = script
    async with worker(reader.app(by="summarise"), strict) as client:
        with pytest.raises(ModelUnavailable, match="no quota"):
            await read(client)
        workflow_id = (await anext(client.list(limit=1))).workflow_id
        before = await client.show(workflow_id)
        failing.clear()
        await client.rerun(workflow_id)
        result = await client.result(workflow_id, timeout=TIME)
        full = await client.full_transcript(workflow_id)
        runs = list(dict.fromkeys(entry.run_id for entry in full.entries))
        await _delete(strict, workflow_id, runs[0])
        rest = await _without(client, workflow_id, runs[0])
    assert len(runs) >= 3, "the run never continued as new"
    assert before.counters.tool_calls == 21
    assert result.output == f"Read {TURNS} pages; {FACT}"
    assert result.counters.tool_calls == TURNS
    assert pages([entry.message for entry in full.entries]) == [str(number) for number in range(TURNS)]
    assert rest.missing_run_id == runs[0]
    kept = pages([entry.message for entry in rest.entries])
    assert kept == [str(number) for number in range(int(kept[0]), TURNS)], "what was copied is still there"


@tool(idempotent=True, local=True)
def chapter(number: int) -> str:
    """Return a chapter."""
    return f"page {number} " + "y" * 120_000


async def test_a_large_conversation_is_made_shorter_before_it_is_copied_again(strict: Client) -> None:
    """What is new is less than three times what was copied, and the server wants a new run."""
    chapters = 40

    def script(request: ModelRequest, messages: list[Message]) -> Any:
        done = sum(message.role == "assistant" for message in messages)
        return calls(("chapter", {"number": done})) if done < chapters else f"{done} chapters"

    agent = Agent(
        "reader",
        model="scripted:x",
        tools=[chapter],
        limits=Limits(max_turns=1000),
        compaction=Compaction(by="drop_tool_results"),
    )
    async with worker(App(agents=[agent], providers=[ScriptedModel(script)]), strict) as client:
        workflow_id, result = await read(client)
        full = await client.full_transcript(workflow_id)
        last = await client.transcript(workflow_id)
    assert result.output == f"{chapters} chapters"
    assert pages([entry.message for entry in full.entries]) == [str(number) for number in range(chapters)]
    assert last[0].epoch >= 1, "it was never made shorter"
    assert len({entry.run_id for entry in full.entries}) >= 3
    assert sum(len(entry.message.model_dump_json()) for entry in last) < 30 * 120_000


async def _delete(client: Client, workflow_id: str, run_id: str) -> None:
    """Do what the end of the time of retention does."""
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace)
    request.workflow_execution.workflow_id = workflow_id
    request.workflow_execution.run_id = run_id
    await client.workflow_service.delete_workflow_execution(request)


async def _without(client: PerdureClient, workflow_id: str, run_id: str) -> Any:
    """Return the transcript once a run is deleted, which the server does in its own time."""
    while True:
        full = await client.full_transcript(workflow_id)
        if full.missing_run_id == run_id:
            return full
