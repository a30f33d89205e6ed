"""The turn loop on a real server: tools, structured output, the model's mistakes, limits, cancellation."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.client import Client, Interceptor, OutboundInterceptor, QueryWorkflowInput

from perdure import Agent, App, Limits, ModelSettings, ToolContext, ToolRetry, tool
from perdure.contracts.messages import Message, ReasoningPart, TextPart, ToolCallPart
from perdure.contracts.names import MESSAGES_QUERY
from perdure.contracts.run import RunResult
from perdure.errors import (
    AgentBug,
    LimitExceeded,
    RunCancelled,
    UnexpectedModelBehavior,
    UnknownAgentError,
)
from perdure.testing import ScriptedModel, calls
from perdure.testing.scripted import Script
from tests.support.workers import worker

TIME = timedelta(seconds=20)


@tool(idempotent=True)
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(idempotent=True, local=True)
def square(number: int) -> int:
    """Square a number."""
    return number * number


@tool
async def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@tool
async def hint() -> str:
    """Send the model a hint."""
    raise ToolRetry("use add instead")


TOOLS = [add, square, fail, hint]


def make_app(script: Script, **options: Any) -> App:
    agent = Agent("worker", model="scripted:x", tools=TOOLS, **options)
    return App(agents=[agent], providers=[ScriptedModel(script)])


async def run_to_end(app: App, temporal: Client, text: str = "go") -> tuple[RunResult, list[Message]]:
    async with worker(app, temporal) as client:
        run = await client.start_agent("worker", text)
        result = await client.result(run.workflow_id, timeout=TIME)
        transcript = await client.transcript(run.workflow_id)
    assert isinstance(result, RunResult)
    return result, [entry.message for entry in transcript]


def results(messages: list[Message]) -> list[tuple[str, str]]:
    """Return outcome and text of every tool result."""
    parts = [part for message in messages for part in message.parts if part.kind == "tool_result"]
    return [(part.outcome, "".join(getattr(each, "text", "") for each in part.content)) for part in parts]


async def test_tools_run_and_the_answer_comes(temporal: Client) -> None:
    app = make_app([calls(("add", {"a": 2, "b": 3}), ("square", {"number": 4})), "done"])
    result, messages = await run_to_end(app, temporal)
    assert result.output == "done"
    assert [message.role for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert results(messages) == [("ok", "5"), ("ok", "16")]
    assert result.counters.turns == 2
    assert result.counters.tool_calls == 2


class _Counting(Interceptor):
    """Counts what a client asks of workflows."""

    def __init__(self) -> None:
        self.queries: Counter[str] = Counter()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Outbound(next, self.queries)


class _Outbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, queries: Counter[str]) -> None:
        super().__init__(next)
        self._queries = queries

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        self._queries[input.query] += 1
        return await super().query_workflow(input)


async def test_a_worker_that_made_all_messages_looks_none_up(temporal: Client) -> None:
    """What it remembers has the digest of what the workflow holds, whatever is in the messages."""
    counting = _Counting()
    strange: Any = {"texts": ["ünï ☃", '"\\\n\u0001'], "n": [1.0, -0.0, 1e22, 2**70], "none": None}
    said = calls(("square", {"number": 3}), ("add", {"a": 1, "b": 2}), ("fail", {"reason": "☃"}), ("nothing", {}))
    app = make_app(
        [
            said.model_copy(update={"vendor": {"x": strange}}),
            Message(role="assistant", parts=(ReasoningPart(text="hm", vendor={"y": strange}),), stop="end"),
            calls(("square", {"number": 3}), ("hint", {}), ("add", {"a": "x" * 1200, "b": 1})),
            "done",
        ]
    )
    config: Any = {**temporal.config(), "interceptors": [counting]}
    async with worker(app, Client(**config)) as client:
        run = await client.start_agent("worker", "gö")
        result = await client.result(run.workflow_id, timeout=TIME)
    assert (result.output, result.counters.turns) == ("done", 4)
    assert counting.queries[MESSAGES_QUERY] == 0


async def test_faults_of_tools_and_models_go_back_to_the_model(temporal: Client) -> None:
    broken = Message(role="assistant", parts=(ToolCallPart(id="1", name="add", arguments='{"a": '),))
    app = make_app(
        [
            calls(("ad", {}), ("fail", {"reason": "no"}), ("hint", {}), ("add", {"a": "x"})),
            broken,
            calls(("add", {"a": 1, "b": 1})),
            "done",
        ]
    )
    result, messages = await run_to_end(app, temporal)
    assert result.output == "done"
    told = results(messages)
    assert told[0] == ("error", "There is no tool 'ad'. Did you mean 'add'?")
    assert told[1] == ("error", "fail failed: ValueError: no")
    assert told[2] == ("error", "use add instead")
    assert told[3][1].startswith("Invalid arguments. a: ")
    assert "b: Field required" in told[3][1]
    assert told[4][1].startswith("The arguments are not JSON")
    assert told[5] == ("ok", "2")


class Report(BaseModel):
    title: str
    score: int


async def test_a_structured_output_is_asked_for_again(temporal: Client) -> None:
    app = make_app(["not json", '{"title": "x"}', '{"title": "x", "score": 3}'], output=Report)
    result, messages = await run_to_end(app, temporal)
    assert result.output == {"title": "x", "score": 3}
    assert "must be one JSON object" in messages[2].text
    assert messages[2].author == "perdure"
    assert "score: Field required" in messages[4].text


async def test_an_output_tool_answers_the_run(temporal: Client) -> None:
    wrong = calls(("final_output", {"value": "many"}))
    app = make_app([wrong, calls(("final_output", {"value": [1, 2]}))], output=list[int])
    result, messages = await run_to_end(app, temporal)
    assert result.output == [1, 2]
    assert results(messages)[0][0] == "error"


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (["never json"], {"output": Report}),
        ([Message(role="assistant", parts=(TextPart(text=" "),))], {}),
        ([calls(("nope", {}))], {}),
        ([calls(("add", {"a": "x"}))], {}),
    ],
    ids=["output never valid", "empty replies", "unknown tool for ever", "invalid arguments for ever"],
)
async def test_mistakes_without_end_end_the_run(temporal: Client, script: Script, options: dict[str, Any]) -> None:
    app = make_app(script, limits=Limits(max_consecutive_errors=3), **options)
    with pytest.raises(UnexpectedModelBehavior) as caught:
        await run_to_end(app, temporal)
    assert "3" in caught.value.message


async def test_at_the_limit_the_model_answers_without_tools(temporal: Client) -> None:
    def script(request: Any, messages: list[Message]) -> Any:
        return "what I have" if not request.may_call_tools else calls(("add", {"a": 1, "b": 1}))

    result, messages = await run_to_end(make_app(script, limits=Limits(max_turns=3)), temporal)
    assert result.output == "what I have"
    assert result.limit == "max_turns=3"
    assert result.counters.turns == 4
    assert "max_turns=3" in messages[-2].text


async def test_at_the_limit_the_run_fails_if_told_so(temporal: Client) -> None:
    app = make_app([calls(("add", {"a": 1, "b": 1}))], limits=Limits(max_tool_calls=2), on_limit="fail")
    with pytest.raises(LimitExceeded) as caught:
        await run_to_end(app, temporal)
    assert caught.value.attributes["limit"] == "max_tool_calls=2"


async def test_the_next_model_is_asked_when_one_fails_for_good(temporal: Client) -> None:
    dead = Agent("worker", model=["dead:x", "scripted:y"], settings=ModelSettings(max_attempts=1))
    failing = ScriptedModel([RuntimeError("defect")], name="dead")
    app = App(agents=[dead], providers=[failing, ScriptedModel(["from the fallback"])])
    result, messages = await run_to_end(app, temporal)
    assert result.output == "from the fallback"
    assert messages[-1].model == "scripted:y"
    assert failing.requests


async def test_a_defect_of_a_provider_ends_the_run(temporal: Client) -> None:
    with pytest.raises(AgentBug, match="RuntimeError: defect"):
        await run_to_end(make_app([RuntimeError("defect")]), temporal)


async def test_an_agent_that_the_worker_lacks_ends_the_run(temporal: Client) -> None:
    async with worker(make_app(["x"]), temporal) as client:
        client._registry = None
        run = await client.start_agent("workr", "go")
        with pytest.raises(UnknownAgentError, match="Did you mean 'worker'"):
            await client.result(run.workflow_id, timeout=TIME)


async def test_cancel_stops_the_call_in_flight(temporal: Client) -> None:
    started = asyncio.Event()
    stopped = asyncio.Event()

    @tool
    async def wait_long(ctx: ToolContext) -> str:
        """Wait."""
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return "too late"

    agent = Agent("worker", model="scripted:x", tools=[wait_long])
    app = App(agents=[agent], providers=[ScriptedModel([calls(("wait_long", {}))])])
    async with worker(app, temporal) as client:
        run = await client.start_agent("worker", "go")
        await asyncio.wait_for(started.wait(), 10)
        await client.cancel(run.workflow_id)
        await asyncio.wait_for(stopped.wait(), 3)
        with pytest.raises(RunCancelled):
            await client.result(run.workflow_id, timeout=TIME)


async def test_instructions_may_depend_on_the_context(temporal: Client) -> None:
    model = ScriptedModel(["done"])
    agent = Agent("worker", model="scripted:x", instructions=lambda values: f"Serve {values['name']}.")
    async with worker(App(agents=[agent], providers=[model]), temporal) as client:
        run = await client.start_agent("worker", "go", context={"name": "Ada"})
        await client.result(run.workflow_id, timeout=TIME)
    assert model.requests[0].instructions == "Serve Ada."
