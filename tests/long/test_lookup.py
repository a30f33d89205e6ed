"""Finding a conversation: in the cache, by query, and from Event History when no worker answers."""

from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from perdure import Agent, App
from perdure.activities._cache import ConversationKey, MessageCache, SpecCache
from perdure.activities._lookup import Lookup
from perdure.agents.registry import Registry
from perdure.contracts.run import MessagesPage, MessagesQuery
from perdure.errors import ConversationUnavailableError, PayloadTooLargeError
from perdure.testing import ScriptedModel, calls
from tests.integration.test_turns import TOOLS
from tests.support.workers import worker

TIME = timedelta(seconds=20)
BIG = "word " * 60_000


def _app(model: ScriptedModel) -> App:
    return App(agents=[Agent("worker", model="scripted:x", tools=TOOLS)], providers=[model])


def _environment(temporal: Client, workflow_id: str, run_id: str) -> ActivityEnvironment:
    environment = ActivityEnvironment(client=temporal)
    environment.info = replace(environment.info, workflow_id=workflow_id, workflow_run_id=run_id)
    return environment


async def test_history_answers_when_no_worker_does(temporal: Client) -> None:
    script = [calls(("add", {"a": 1, "b": 2}), ("square", {"number": 3})), "done"]
    async with worker(_app(ScriptedModel(script)), temporal) as client:
        run = await client.start_agent("worker", BIG)
        await client.result(run.workflow_id, timeout=TIME)
        query = MessagesQuery(conversation="main")
        asked = MessagesPage.model_validate(await client.query(run.workflow_id, "perdure.messages", query))
        digest = (await client.query(run.workflow_id, "perdure.status"))["spec"]
    lookup = Lookup(Registry(), cache=MessageCache(10_000_000), specs=SpecCache())
    key = ConversationKey(run.workflow_id, run.run_id, "main", 0)
    environment = _environment(temporal, run.workflow_id, run.run_id)
    slots = await environment.run(lookup.slots, key, 5)
    assert tuple(slot.message for slot in slots) == asked.messages
    assert [slot.message.role for slot in slots] == ["user", "assistant", "tool", "tool", "assistant"]
    assert slots[0].message.text == BIG
    spec = await environment.run(lookup.spec, digest, run.workflow_id, run.run_id)
    assert spec.name == "worker"
    assert lookup.cache.get(key).keys() == {0, 1, 2, 3, 4}


async def test_a_conversation_that_is_nowhere_is_a_retryable_error(temporal: Client) -> None:
    lookup = Lookup(Registry(), cache=MessageCache(0), specs=SpecCache())
    run_id = "01a205f7-78fc-75d8-988f-15954a54b315"
    environment = _environment(temporal, "nobody", run_id)
    with pytest.raises(ConversationUnavailableError) as caught:
        await environment.run(lookup.slots, ConversationKey("nobody", run_id, "main", 0), 1)
    assert not caught.value.non_retryable


async def test_a_large_input_is_recorded_once(temporal: Client) -> None:
    async with worker(_app(ScriptedModel(["done"])), temporal) as client:
        run = await client.start_agent("worker", BIG)
        await client.result(run.workflow_id, timeout=TIME)
        details = await client.show(run.workflow_id)
    assert len(BIG) < details.info.history_bytes < len(BIG) + 10_000


async def test_an_input_over_the_limit_is_refused_before_it_is_sent(temporal: Client) -> None:
    async with worker(_app(ScriptedModel(["done"])), temporal) as client:
        with pytest.raises(PayloadTooLargeError, match="more than 1500000"):
            await client.start_agent("worker", "x" * 1_500_000)


async def test_an_answer_too_large_for_a_result_is_read_from_the_conversation(temporal: Client) -> None:
    answer = "y" * 600_000
    async with worker(_app(ScriptedModel([answer])), temporal) as client:
        run = await client.start_agent("worker", "go")
        result = await client.result(run.workflow_id, timeout=TIME)
        details = await client.show(run.workflow_id)
    assert result.output == answer
    assert details.info.history_bytes < len(answer) + 10_000
