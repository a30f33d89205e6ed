"""Agents that hand over, agents that check one another, and agents that go in circles."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, Verdict, tool
from perdure.client import PerdureClient
from perdure.contracts.messages import Message
from perdure.contracts.run import RunResult
from perdure.errors import InvalidToolError, LimitExceeded, UnexpectedModelBehavior, UnknownAgentError, UserError
from perdure.testing import ScriptedModel, calls
from tests.integration.test_turns import TOOLS, results
from tests.support.workers import worker

TIME = timedelta(seconds=40)
AGAIN = calls(("add", {"a": 1, "b": 1}))


def long_enough(answer: str) -> str | None:
    return None if len(answer) >= 8 else f"It has {len(answer)} letters, not 8."


async def never(answer: str) -> bool:
    return False


def broken(answer: str) -> bool:
    raise ValueError("sk-secret-0123456789")


@tool(idempotent=True, local=True, timeout=timedelta(milliseconds=200), max_attempts=1)
async def dawdle() -> str:
    """Take too long."""
    await asyncio.sleep(30)
    return "too late"


def _judge(request: Any, messages: list[Message]) -> Any:
    is_good = "The answer:\ngood" in messages[0].text
    return Verdict(accept=is_good, reason="" if is_good else "It is bad.").to_bytes().decode()


def _circles(request: Any, messages: list[Message]) -> Any:
    told = any("same result each time" in message.text for message in messages)
    stubborn = "stubborn" in messages[0].text
    return AGAIN if stubborn or not told else "enough"


judge = Agent("judge", model="judge:x", output=Verdict)
app = App(
    agents=[
        Agent("front", model="front:x", handoffs=["back"], tools=TOOLS, instructions="I am front."),
        Agent("back", model="back:x", description="Knows.", tools=TOOLS, instructions="I am back."),
        Agent("ping", model="ping:x", handoffs=["pong"], limits=Limits(max_handoffs=3)),
        Agent("pong", model="pong:x", handoffs=["ping"], limits=Limits(max_handoffs=3)),
        Agent("checked", model="improving:x", verify=long_enough),
        Agent("doomed", model="improving:x", verify=never, limits=Limits(max_rejections=1)),
        Agent("unlucky", model="improving:x", verify=broken),
        Agent("judged", model="bettering:x", verify=judge),
        Agent("circling", model="circles:x", tools=TOOLS, limits=Limits(max_repeats=3)),
        Agent("slow", model="slow:x", tools=[dawdle]),
    ],
    providers=[
        ScriptedModel(
            [calls(("add", {"a": 1, "b": 2}), ("handoff_to_back", {"reason": "you know"}))], name="front"
        ),
        ScriptedModel(["unused", "from the back"], name="back"),
        ScriptedModel([calls(("handoff_to_pong", {}))], name="ping"),
        ScriptedModel([calls(("handoff_to_ping", {}))], name="pong"),
        ScriptedModel(["short", "long enough"], name="improving"),
        ScriptedModel(["bad", "good"], name="bettering"),
        ScriptedModel(_judge, name="judge"),
        ScriptedModel(_circles, name="circles"),
        ScriptedModel([calls(("dawdle", {})), "gave up"], name="slow"),
    ],
)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


async def _run(client: PerdureClient, agent: str, text: str = "go") -> tuple[RunResult, list[Message]]:
    run = await client.start_agent(agent, text)
    result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, RunResult)
    return result, [entry.message for entry in await client.transcript(run.workflow_id)]


async def test_a_handoff_passes_the_conversation_on(client: PerdureClient) -> None:
    result, messages = await _run(client, "front")
    assert (result.output, result.agent) == ("from the back", "back")
    assert result.counters.handoffs == ("front",)
    told = results(messages)
    assert told == [("ok", "Not run: the conversation was handed over."), ("ok", "Handed over to back.")]
    assert messages[-1].model == "back:x"


async def test_handoffs_in_a_circle_end_with_the_circle_named(client: PerdureClient) -> None:
    with pytest.raises(LimitExceeded, match="ping → pong → ping → pong → ping"):
        await _run(client, "ping")


async def test_a_function_sends_an_answer_back(client: PerdureClient) -> None:
    result, messages = await _run(client, "checked")
    assert result.output == "long enough"
    assert result.counters.rejections == 1
    assert "It has 5 letters, not 8." in messages[2].text


async def test_rejections_have_an_end(client: PerdureClient) -> None:
    with pytest.raises(UnexpectedModelBehavior, match="rejected the answer 2 times") as caught:
        await _run(client, "doomed")
    assert caught.value.attributes["partial"] == "long enough"


async def test_a_verifier_that_fails_says_so_without_secrets(client: PerdureClient) -> None:
    with pytest.raises(UserError, match="verifier 'broken' of agent 'unlucky' failed: ValueError") as caught:
        await _run(client, "unlucky")
    assert "sk-secret" not in str(caught.value)


async def test_an_agent_judges_another(client: PerdureClient) -> None:
    result, messages = await _run(client, "judged")
    assert result.output == "good"
    assert "It is bad." in messages[2].text


def test_a_verifier_must_give_verdicts() -> None:
    with pytest.raises(InvalidToolError, match="output=Verdict"):
        Agent("x", model="a:b", verify=Agent("y", model="a:b"))


def test_a_handoff_to_nobody_is_found_at_declaration() -> None:
    with pytest.raises(UnknownAgentError, match="Did you mean 'back'"):
        App(agents=[Agent("front", model="a:b", handoffs=["bck"]), Agent("back", model="a:b")])


async def test_a_model_that_repeats_itself_is_told(client: PerdureClient) -> None:
    result, messages = await _run(client, "circling")
    assert result.output == "enough"
    assert "add was called 3 times" in messages[-2].text


async def test_a_model_that_goes_on_repeating_itself_is_stopped(client: PerdureClient) -> None:
    with pytest.raises(UnexpectedModelBehavior, match="add was called 6 times"):
        await _run(client, "circling", "stubborn")


async def test_a_local_tool_that_takes_too_long_is_an_answer(client: PerdureClient) -> None:
    result, messages = await _run(client, "slow")
    assert result.output == "gave up"
    assert results(messages) == [("error", "dawdle did not finish within 0.2 seconds")]
