"""The activity that asks a model: attempts, partial replies, judging, and messages encoded once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure import Agent, ModelSettings
from perdure.activities._outputs import MAX_REPLY_BYTES
from perdure.contracts.calls import CallModelRequest, CallModelResult, Progress, SlotMessage
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message, ReasoningPart, TextPart, ToolCallPart, user_message
from perdure.contracts.usage import Price
from perdure.errors import ConversationUnavailableError, ModelCallError, UnknownModelError
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink
from perdure.providers.registry import ProviderConfig
from perdure.testing import ScriptedModel, calls
from perdure.testing.scripted import Reply
from tests.activities.conftest import MakeRig
from tests.activities.rig import HI, KEY, SECRET, FakeTemporal, Rig
from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.openai_server import chunks
from tests.fakes.replies import FakeReply
from tests.unit.test_history import Recorder, record_a_run, recorder

__all__ = ["recorder"]

BUSY = ModelCallError("busy", kind="transient", status_code=503, may_be_billed=True)


def rate_limited(seconds: float | None) -> ModelCallError:
    return ModelCallError("slow down", kind="rate_limited", status_code=429, retry_after_seconds=seconds)


def costing(price: Price) -> Callable[[str], tuple[Price, int | None]]:
    def find_model(name: str) -> tuple[Price, int | None]:
        return price, None

    return find_model


class CountingModel(ScriptedModel):
    """Counts how often each message is encoded."""

    def __init__(self, script: Any, **options: Any) -> None:
        super().__init__(script, **options)
        self.encoded: Counter[str] = Counter()

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        self.encoded[message.text] += 1
        return super().encode(message, read_blob)


async def failure_of(rig: Rig, **options: Any) -> ModelCallError:
    with pytest.raises(ModelCallError) as caught:
        await rig.ask(await rig.pin(), **options)
    return caught.value


async def test_the_reply_is_returned_priced_and_remembered(make_rig: MakeRig) -> None:
    price = Price(input_usd=Decimal(1_000_000), output_usd=Decimal(1_000_000))
    model = ScriptedModel(["hello"])
    rig = make_rig(model, find_model=costing(price), instructions="Be brief.")
    spec = await rig.pin()
    result = await rig.ask(spec, max_output_tokens=7)
    assert (result.message.text, result.message.model, result.problem) == ("hello", "scripted:x", "")
    assert result.usage.cost_usd == result.usage.total_tokens > 0
    assert rig.lookup.cache.get(KEY)[1].message == result.message
    (asked,) = model.requests
    assert (asked.model, asked.instructions, asked.cache_key) == ("x", "Be brief.", spec.digest)
    assert (asked.max_output_tokens, asked.may_call_tools) == (7, True)
    assert rig.beats == [], "a quick call costs no heartbeat"


async def test_the_last_call_may_call_no_tools(make_rig: MakeRig) -> None:
    model = ScriptedModel(["done"])
    rig = make_rig(model, settings=ModelSettings(max_output_tokens=9))
    await rig.ask(await rig.pin(), is_final=True)
    assert model.requests[0].may_call_tools is False
    assert model.requests[0].max_output_tokens == 9


async def test_an_unknown_usage_has_no_price(make_rig: MakeRig) -> None:
    class Silent(ScriptedModel):
        async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
            reply = await super().call(request, on_text)
            return ModelReply(message=reply.message, usage=reply.usage, is_usage_known=False)

    free = Price(input_usd=Decimal(0), output_usd=Decimal(0))
    rig = make_rig(Silent(["hi"]), find_model=costing(free))
    assert (await rig.ask(await rig.pin())).usage.cost_usd is None


async def test_a_fallback_is_asked_by_its_index(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel(["done"]), model=["scripted:x", "scripted:y"])
    assert (await rig.ask(await rig.pin(), model=1)).message.model == "scripted:y"


@pytest.mark.parametrize(("tries", "low", "high"), [(0, 0.25, 0.5), (1, 0.5, 1), (3, 2, 4), (50, 15, 30)])
async def test_a_fault_that_may_pass_is_retried_later_and_later(
    make_rig: MakeRig, tries: int, low: float, high: float
) -> None:
    rig = make_rig(ScriptedModel([BUSY]), settings=ModelSettings(max_attempts=100))
    error = await failure_of(rig, tries=tries, attempt=tries + 1)
    assert not error.non_retryable
    assert error.next_retry_delay is not None
    assert low <= error.next_retry_delay.total_seconds() <= high
    assert (error.kind, error.status_code, error.may_be_billed) == ("transient", 503, True)
    assert rig.beats == [Progress(tries=tries + 1)]


async def test_the_last_attempt_is_not_retried(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel([BUSY]), settings=ModelSettings(max_attempts=3))
    assert not (await failure_of(rig, tries=1, attempt=9)).non_retryable
    error = await failure_of(rig, tries=2, attempt=3)
    assert error.non_retryable
    assert error.attempts == 3
    assert "gave up after 3 attempts" in error.message


async def test_waiting_out_a_rate_limit_is_no_attempt(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel([rate_limited(7)]), settings=ModelSettings(max_attempts=1))
    error = await failure_of(rig, attempt=5)
    assert not error.non_retryable
    assert error.next_retry_delay is not None
    assert error.next_retry_delay >= timedelta(seconds=7)
    assert rig.beats == []


async def test_a_rate_limit_without_a_time_is_waited_out_longer_and_longer(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel([rate_limited(None)]))
    for attempt, low, high in ((1, 0.25, 0.5), (3, 1, 2), (7, 15, 30)):
        delay = (await failure_of(rig, attempt=attempt)).next_retry_delay
        assert delay is not None
        assert low <= delay.total_seconds() <= high


@pytest.mark.parametrize("kind", ["fatal", "context_too_long"])
async def test_a_fault_that_stays_is_not_retried(make_rig: MakeRig, kind: Any) -> None:
    rig = make_rig(ScriptedModel([ModelCallError("no", kind=kind, status_code=400)]))
    error = await failure_of(rig)
    assert error.non_retryable
    assert (error.kind, error.message, error.next_retry_delay) == (kind, "no", None)
    assert rig.beats == []


async def test_a_provider_that_can_not_work_is_told_at_once(make_rig: MakeRig) -> None:
    class Keyless(ScriptedModel):
        def check(self) -> None:
            raise UnknownModelError("set SCRIPTED_KEY")

    rig = make_rig(Keyless(["never"]))
    with pytest.raises(UnknownModelError, match="SCRIPTED_KEY") as caught:
        await rig.ask(await rig.pin())
    assert caught.value.non_retryable


async def test_a_defect_is_typed_and_tells_no_secret(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel([RuntimeError(f"bad key {SECRET}")]))
    with pytest.raises(ApplicationError) as caught:
        await rig.ask(await rig.pin())
    assert (caught.value.type, caught.value.non_retryable) == ("AgentBug", True)
    assert caught.value.message == "perdure.call_model failed: RuntimeError: bad key ***"
    assert caught.value.__suppress_context__, "the cause would tell it"


class Stalling(HttpServer):
    """Streams some text, then nothing; `left` is set when the client has gone."""

    def __init__(self, text: str) -> None:
        super().__init__(self._answer)
        self.text = text
        self.sent = asyncio.Event()
        self.left = asyncio.Event()

    async def _answer(self, request: Request, connection: Connection) -> None:
        await connection.stream_head()
        for chunk in list(chunks(FakeReply(text=self.text), "m"))[:-2]:
            await connection.chunk(event(chunk))
        self.sent.set()
        await connection.peer_left()
        self.left.set()

    def config(self) -> ProviderConfig:
        return ProviderConfig(name="fake", protocol="openai", base_url=self.url)


async def stopped(rig: Rig, server: Stalling, *, is_cancelled: bool) -> CallModelResult:
    spec = await rig.pin()
    environment = rig.environment(heartbeat=0.03)
    request = CallModelRequest(spec=spec.digest, slots=1, new=(HI,))
    task = asyncio.create_task(environment.run(rig.call_model, request))
    async with asyncio.timeout(5):
        await server.sent.wait()
        while not (rig.beats and rig.beats[-1].text == server.text):
            await asyncio.sleep(0.005)
        details = ActivityCancellationDetails(cancel_requested=is_cancelled, worker_shutdown=not is_cancelled)
        environment.cancel(cancellation_details=details)
        try:
            return await task
        finally:
            await server.left.wait()


async def test_a_cancelled_call_returns_what_came(make_rig: MakeRig) -> None:
    async with Stalling("half of it") as server:
        rig = make_rig(configs=[server.config()], model="fake:m")
        result = await stopped(rig, server, is_cancelled=True)
    assert (result.message.text, result.message.stop) == ("half of it", "interrupted")
    assert result.usage.cost_usd is None


async def test_a_cancelled_call_without_a_word_is_cancelled(make_rig: MakeRig) -> None:
    async with Stalling("") as server:
        rig = make_rig(configs=[server.config()], model="fake:m")
        with pytest.raises(asyncio.CancelledError):
            await stopped(rig, server, is_cancelled=True)


class Slow(ScriptedModel):
    """Answers when it is told to."""

    def __init__(self, reply: Any = "at last") -> None:
        super().__init__([reply])
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.is_stopped = False

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        self.asked.set()
        on_text("at")
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.is_stopped = True
            raise
        return await super().call(request, on_text)


GIVEN_UP = ActivityCancellationDetails(not_found=True)


async def attempts(rig: Rig, model: Slow) -> tuple[ActivityEnvironment, asyncio.Task[Any], asyncio.Task[Any]]:
    """Start two attempts at the same call, and return the environment of the first, and both."""
    spec = await rig.pin()
    request = CallModelRequest(spec=spec.digest, slots=1, new=(HI,))
    first = rig.environment(activity_id="7", heartbeat=0.03)
    one = asyncio.create_task(first.run(rig.call_model, request))
    await model.asked.wait()
    two = asyncio.create_task(rig.environment(activity_id="7", attempt=2).run(rig.call_model, request))
    await asyncio.sleep(0.01)
    return first, one, two


async def test_the_next_attempt_joins_a_call_that_was_given_up(make_rig: MakeRig) -> None:
    model = Slow()
    first, one, two = await attempts(make_rig(model), model)
    first.cancel(cancellation_details=GIVEN_UP)
    with pytest.raises(asyncio.CancelledError):
        await one
    model.may_answer.set()
    assert (await two).message.text == "at last"
    assert len(model.requests) == 1


async def test_both_attempts_share_what_the_call_failed_with(make_rig: MakeRig) -> None:
    model = Slow(BUSY)
    rig = make_rig(model)
    _, one, two = await attempts(rig, model)
    model.may_answer.set()
    assert [type(each) for each in await asyncio.gather(one, two, return_exceptions=True)] == [ModelCallError] * 2
    assert len(model.requests) == 1
    await failure_of(rig, activity_id="7")
    assert len(model.requests) == 2, "a failure isn't kept"


async def test_a_worker_that_stops_stops_a_call_in_flight(make_rig: MakeRig) -> None:
    model = Slow()
    rig = make_rig(model)
    first, one, two = await attempts(rig, model)
    first.cancel(cancellation_details=GIVEN_UP)
    with pytest.raises(asyncio.CancelledError):
        await one
    assert not model.is_stopped
    two.cancel()
    with pytest.raises(asyncio.CancelledError):
        await two
    assert model.is_stopped


async def test_a_worker_that_stops_leaves_the_call_to_another(make_rig: MakeRig) -> None:
    async with Stalling("half of it") as server:
        rig = make_rig(configs=[server.config()], model="fake:m")
        with pytest.raises(asyncio.CancelledError):
            await stopped(rig, server, is_cancelled=False)
    assert rig.lookup.cache.get(KEY).keys() == {0}


async def test_a_reply_too_large_for_history_is_asked_for_again(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel(["x" * MAX_REPLY_BYTES]))
    result = await rig.ask(await rig.pin())
    assert f"longer than {MAX_REPLY_BYTES} bytes" in result.problem
    assert result.message.parts == ()
    assert result.usage.output_tokens == 10, "it is paid for all the same"
    assert len(result.to_bytes()) < 1000


class Report(BaseModel):
    title: str
    score: int

    @field_validator("score")
    @classmethod
    def _is_even(cls, score: int) -> int:
        if score % 2:
            raise ValueError("must be even")
        return score


async def judged(make_rig: MakeRig, reply: Reply, output: Any, *, today: Any = None) -> str:
    """Return the problem of a reply; `today` is the output type after a deploy, None when the agent is gone."""
    spec = await make_rig(output=output).pin()
    agents = [] if today is None else [Agent("worker", model="scripted:x", output=today)]
    rig = make_rig(ScriptedModel([reply]), agents=agents)
    rig.lookup.specs.put(spec)
    return (await rig.ask(spec)).problem


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ('{"title": "x", "score": 2}', ""),
        ("no json", "The answer must be one JSON object and nothing else: "),
        ("[" * 200_000, "The answer must be one JSON object and nothing else: "),
        ('{"title": "x"}', "The answer does not fit its schema: score: Field required."),
        ('{"title": "x", "score": 3}', "The answer does not fit its schema: score: Value error, must be even."),
        ("[1]", "The answer does not fit its schema: answer: Input should be an object."),
        (" ", "The reply was empty. Answer, or call a tool."),
        (calls(("search", {})), ""),
        (calls(("final_output", {"title": "x", "score": 2})), ""),
        (calls(("search", {}), ("final_output", {"title": "x"})), "The answer does not fit its schema: score: "),
        (Message(role="assistant", parts=(TextPart(text="I won't."),), stop="refusal"), ""),
        (Message(role="assistant", parts=(ReasoningPart(text="hm"),)), "The reply was empty."),
    ],
)
async def test_todays_type_judges_an_output(make_rig: MakeRig, reply: Reply, problem: str) -> None:
    found = await judged(make_rig, reply, Report, today=Report)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize("today", [None, int], ids=["agent gone", "type changed"])
async def test_the_pinned_schema_judges_when_the_type_is_another(make_rig: MakeRig, today: Any) -> None:
    assert await judged(make_rig, '{"title": "x", "score": 3}', Report, today=today) == ""
    problem = await judged(make_rig, '{"title": 5, "score": "many"}', Report, today=today)
    assert "title: 5 is not of type 'string'" in problem
    assert "score: 'many' is not of type 'integer'" in problem


@pytest.mark.parametrize("today", [list[int], None], ids=["today's type", "pinned schema"])
@pytest.mark.parametrize("reply", ["[1]", "3", "null", '{"values": [1]}', '{"value": ["x"]}'])
async def test_a_wrapped_output_that_is_not_wrapped_is_asked_for_again(
    make_rig: MakeRig, reply: str, today: Any
) -> None:
    assert "does not fit its schema" in await judged(make_rig, reply, list[int], today=today)
    assert await judged(make_rig, '{"value": [1]}', list[int], today=today) == ""


async def test_a_long_list_of_faults_is_cut(make_rig: MakeRig) -> None:
    problem = await judged(make_rig, str({"value": ["x"] * 50}).replace("'", '"'), list[int], today=list[int])
    assert problem.count("valid integer") == 10


async def test_text_needs_no_json(make_rig: MakeRig) -> None:
    assert await judged(make_rig, "{not json", str, today=str) == ""


async def test_each_message_is_encoded_once(make_rig: MakeRig) -> None:
    model = CountingModel(["one", "two", "three"])
    rig = make_rig(model)
    spec = await rig.pin()
    await rig.ask(spec)
    for slots in (3, 5):
        again = SlotMessage(slot=slots - 1, message=user_message(f"say {slots}"))
        await rig.ask(spec, slots=slots, new=[again])
    assert model.encoded == {"hi": 1, "one": 1, "say 3": 1, "two": 1, "say 5": 1}
    assert [len(request.fragments) for request in model.requests] == [1, 3, 5]
    assert [bytes(each.body) for each in model.requests[2].fragments][:3] == [
        each.body for each in model.requests[1].fragments
    ]


async def test_what_is_not_cached_is_asked_of_the_workflow_and_kept(make_rig: MakeRig) -> None:
    messages = [user_message(f"m{number}") for number in range(5)]
    model = CountingModel(["done"])
    rig = make_rig(model)
    spec = await rig.pin()
    temporal = FakeTemporal(messages)
    await rig.ask(spec, slots=5, new=[SlotMessage(slot=4, message=messages[4])], client=temporal)
    assert [(query.start, query.stop) for _, query in temporal.queries] == [(0, 4), (2, 4)]
    await rig.ask(spec, slots=5, new=(), client=temporal)
    assert len(temporal.queries) == 2
    assert model.encoded == {f"m{number}": 1 for number in range(5)}


async def test_a_forgotten_conversation_is_asked_for_again(make_rig: MakeRig) -> None:
    rig = make_rig(cache_bytes=0)
    spec = await rig.pin()
    temporal = FakeTemporal([user_message("hi")])
    for _ in range(2):
        await rig.ask(spec, new=(), client=temporal)
    assert len(temporal.queries) == 2


async def test_what_nobody_has_is_no_attempt_at_the_vendor(make_rig: MakeRig) -> None:
    model = ScriptedModel(["never"])
    rig = make_rig(model)
    spec = await rig.pin()
    with pytest.raises(ConversationUnavailableError) as caught:
        await rig.ask(spec, slots=3, client=FakeTemporal([user_message("hi")]))
    assert not caught.value.non_retryable
    assert (model.requests, rig.beats) == ([], [])


async def test_what_a_closed_run_never_took_in_is_read_from_its_history(
    make_rig: MakeRig, recorder: Recorder
) -> None:
    """A reply came as the run was cancelled: history has it, and the workflow that answers hasn't."""
    record_a_run(recorder)
    recorded = (await recorder.read()).conversation()
    model = ScriptedModel(["done"])
    rig = make_rig(model)
    spec = await rig.pin()
    temporal = FakeTemporal([recorded[slot] for slot in range(3)], events=recorder.events)
    temporal.has_worker = True
    await rig.ask(spec, slots=6, new=(), client=temporal)
    shown = [Message.model_validate_json(each.body) for each in model.requests[0].fragments]
    assert shown == [recorded[slot] for slot in range(6)]


async def test_a_spec_is_asked_of_the_workflow_once(make_rig: MakeRig) -> None:
    spec = await make_rig(limits=Limits(max_turns=3)).pin()
    rig = make_rig()
    temporal = FakeTemporal(spec=spec)
    for _ in range(2):
        assert (await rig.ask(spec, client=temporal)).message.text == "done"
    assert len(temporal.queries) == 1
    with pytest.raises(ConversationUnavailableError, match="no such run"):
        await rig.ask(spec.model_copy(update={"name": "other"}), client=temporal)


async def test_tool_calls_are_passed_on_as_the_model_wrote_them(make_rig: MakeRig) -> None:
    part = ToolCallPart(id="call_9", name="search", arguments='{"q": 1}')
    rig = make_rig(ScriptedModel([Message(role="assistant", parts=(part,), stop="tool_calls")]))
    assert (await rig.ask(await rig.pin())).message.tool_calls == (part,)
