"""The activity that runs a tool call: a failure is an answer, and what can be tried again is."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from temporalio.exceptions import ApplicationError

from perdure import Agent, Tool, ToolContext, ToolRetry, tool
from perdure.contracts.calls import CallToolRequest, CallToolResult, Progress
from perdure.contracts.messages import (
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    Outcome,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from perdure.errors import ConversationUnavailableError, ToolError
from tests.activities.conftest import MakeRig
from tests.activities.rig import KEY, SECRET, FakeTemporal, Rig

PNG = b"\x89PNG"
REQUEST = {"call_slot": 1, "slot": 2, "key": "key-1", "call_id": "call_1"}


def parts(result: CallToolResult) -> tuple[Outcome, tuple[ContentPart, ...]]:
    (part,) = result.message.parts
    assert isinstance(part, ToolResultPart)
    assert (part.call_id, result.message.role) == ("call_1", "tool")
    return part.outcome, part.content


def told(result: CallToolResult) -> tuple[Outcome, str]:
    outcome, content = parts(result)
    return outcome, "".join(getattr(each, "text", "") for each in content)


@dataclass
class Calling:
    """Calls tools as a run does that is pinned to `first`, on a worker that has `now`."""

    make_rig: MakeRig
    rig: Rig | None = None

    async def __call__(
        self,
        first: Tool,
        arguments: str | None = "{}",
        *,
        now: Sequence[Tool] | None = None,
        context: Any = None,
        resources: Any = None,
        name: str = "",
        **options: Any,
    ) -> CallToolResult:
        spec = await self.make_rig(tools=[first]).pin(context=context)
        tools = [first] if now is None else now
        agent = Agent("worker", model="scripted:x", tools=tools)
        self.rig = self.make_rig(agents=[agent], resources=resources or {})
        self.rig.lookup.specs.put(spec)
        fields: dict[str, Any] = {**REQUEST, "name": name or first.name, "arguments": arguments}
        request = CallToolRequest(spec=spec.digest, **fields)
        return await self.rig.environment(**options).run(self.rig.call_tool, request)


@pytest.fixture
def call(make_rig: MakeRig) -> Calling:
    return Calling(make_rig)


@tool
async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool
def name_of_thread() -> str:
    """Say where it runs."""
    return threading.current_thread().name


def raising(error: BaseException, **options: Any) -> Tool:
    @tool(name="raising", **options)
    async def made() -> None:
        """Raise."""
        raise error

    return made


def returning(value: Any, **options: Any) -> Tool:
    @tool(name="returning", **options)
    async def made() -> Any:
        """Return."""
        return value

    return made


async def test_the_answer_goes_into_its_slot(call: Calling) -> None:
    result = await call(add, '{"a": 2}')
    assert told(result) == ("ok", "3")
    assert (result.slot, result.epoch, result.conversation) == (2, 0, "main")
    assert call.rig is not None
    assert call.rig.lookup.cache.get(KEY)[2].message == result.message
    assert call.rig.beats == []


async def test_the_tool_that_was_asked_for_is_run(call: Calling) -> None:
    assert told(await call(add, '{"a": 2}', now=[returning("the other"), add])) == ("ok", "3")


async def test_a_plain_function_does_not_hold_up_the_worker(call: Calling) -> None:
    assert told(await call(name_of_thread))[1] != threading.main_thread().name


async def test_what_a_tool_is_told_of_its_call(call: Calling) -> None:
    seen: list[ToolContext] = []

    @tool
    async def look(ctx: ToolContext) -> str:
        """Look."""
        seen.append(ctx)
        ctx.heartbeat()
        return "ok"

    pool = object()
    await call(look, context={"user": "Ada"}, resources={"pool": pool}, attempt=3)
    (ctx,) = seen
    assert (ctx.idempotency_key, ctx.workflow_id, ctx.tool, ctx.attempt) == ("key-1", "wf", "look", 3)
    assert (ctx.context, ctx.resources) == ({"user": "Ada"}, {"pool": pool})
    assert call.rig is not None
    assert ctx.http is call.rig.host.http


class Item(BaseModel):
    name: str
    on: date


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "null"),
        ({"a": [1, 2.5, True]}, '{"a":[1,2.5,true]}'),
        (Item(name="x", on=date(2026, 1, 2)), '{"name":"x","on":"2026-01-02"}'),
        ([Item(name="x", on=date(2026, 1, 2))], '[{"name":"x","on":"2026-01-02"}]'),
        ([], "[]"),
        ((1, 2), "[1,2]"),
        (b"bytes", '"bytes"'),
        ("naïve 🙂", "naïve 🙂"),
        ("not utf-8: \udcff", "not utf-8: ?"),
    ],
)
async def test_what_a_tool_returns_is_text_or_json(call: Calling, value: Any, text: str) -> None:
    result = await call(returning(value))
    assert told(result) == ("ok", text)
    assert result.to_bytes()


@pytest.mark.parametrize("value", [object(), {"a": object()}, b"\xff", {"a": "\udcff"}])
async def test_a_value_without_a_json_form_is_told(call: Calling, value: Any) -> None:
    outcome, text = told(await call(returning(value, idempotent=True)))
    assert outcome == "error"
    assert text.startswith("returning returned a value that has no JSON form")


async def test_parts_and_blobs_are_passed_on(call: Calling) -> None:
    @tool
    async def draw(ctx: ToolContext) -> Sequence[ContentPart]:
        """Draw."""
        blob = ctx.put_blob(PNG)
        return [TextPart(text="see"), ImagePart(blob=blob, media_type="image/png")]

    outcome, content = parts(await call(draw))
    image = content[1]
    assert isinstance(image, ImagePart)
    assert image.blob is not None
    assert call.rig is not None
    assert (outcome, call.rig.blobs.read(image.blob)) == ("ok", PNG)
    file = FilePart(url="https://example.org/a.pdf")
    assert parts(await call(returning(file)))[1] == (file,)


async def test_a_long_result_is_cut_between_characters(call: Calling) -> None:
    _, text = told(await call(returning("é" * 10, max_result_bytes=5)))
    assert text == "éé\n[cut by perdure: 5 of 20 bytes shown; ask for less, or for a part]"
    assert told(await call(returning("é" * 10, max_result_bytes=20)))[1] == "é" * 10


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ToolRetry("use add instead"), "use add instead"),
        (ValueError("bad"), "raising failed: ValueError: bad"),
        (KeyError("k"), "raising failed: KeyError: 'k'"),
        (TimeoutError("the shop did not answer"), "raising failed: TimeoutError: the shop did not answer"),
        (SystemExit(3), "raising failed: SystemExit: 3"),
        (ValueError(f"key {SECRET} refused"), "raising failed: ValueError: key *** refused"),
        (ToolRetry(f"not with {SECRET}"), "not with ***"),
        (OSError("\udcff"), "raising failed: OSError: ?"),
    ],
)
async def test_a_failure_is_told_to_the_model(call: Calling, error: BaseException, text: str) -> None:
    result = await call(raising(error))
    assert told(result) == ("error", text)
    assert result.to_bytes()


async def test_a_failure_in_a_thread_is_told_too(call: Calling) -> None:
    @tool
    def leave() -> None:
        """Leave."""
        raise SystemExit("bye")

    assert told(await call(leave)) == ("error", "leave failed: SystemExit: bye")


async def test_a_long_failure_is_cut(call: Calling) -> None:
    assert len(told(await call(raising(ValueError("x" * 100_000))))[1]) < 2100


@pytest.mark.parametrize(("tries", "low", "high"), [(0, 0.25, 0.5), (1, 0.5, 1)])
async def test_an_idempotent_tool_is_tried_again(call: Calling, tries: int, low: float, high: float) -> None:
    failing = raising(ValueError(f"bad {SECRET}"), idempotent=True, max_attempts=3)
    with pytest.raises(ToolError, match=r"raising failed: ValueError: bad \*\*\*") as caught:
        await call(failing, tries=tries, attempt=9)
    error = caught.value
    assert not error.non_retryable
    assert error.next_retry_delay is not None
    assert low <= error.next_retry_delay.total_seconds() <= high
    assert error.attributes == {"tool": "raising", "error": "ValueError"}
    assert call.rig is not None
    assert call.rig.beats == [Progress(tries=tries + 1)]


async def test_the_last_try_of_an_idempotent_tool_is_an_answer(call: Calling) -> None:
    failing = raising(ValueError("bad"), idempotent=True, max_attempts=3)
    assert told(await call(failing, tries=2)) == ("error", "raising failed: ValueError: bad")


async def test_a_local_tool_counts_temporals_attempts(call: Calling) -> None:
    failing = raising(ValueError("bad"), idempotent=True, local=True, max_attempts=2)
    with pytest.raises(ToolError):
        await call(failing, is_local=True, attempt=1)
    assert told(await call(failing, is_local=True, attempt=2))[0] == "error"
    assert call.rig is not None
    assert call.rig.beats == []


@pytest.mark.parametrize("options", [{}, {"idempotent": True}])
async def test_a_hint_to_the_model_is_never_tried_again(call: Calling, options: Any) -> None:
    assert told(await call(raising(ToolRetry("no"), **options))) == ("error", "no")


async def test_a_tool_that_takes_too_long_is_stopped(call: Calling) -> None:
    stopped: list[BaseException] = []

    @tool(timeout=timedelta(milliseconds=20))
    async def sleep() -> str:
        """Sleep."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            stopped.append(error)
            raise
        return "too late"

    assert told(await call(sleep)) == ("error", "sleep did not finish within 0.02 seconds")
    assert stopped


async def test_a_plain_tool_that_takes_too_long_is_left_behind(call: Calling) -> None:
    release = threading.Event()

    @tool(timeout=timedelta(milliseconds=20), idempotent=True)
    def sleep() -> None:
        """Sleep."""
        release.wait(5)

    with pytest.raises(ToolError, match=r"did not finish within 0\.02 seconds"):
        await call(sleep)
    release.set()


async def test_cancelling_stops_the_tool(call: Calling) -> None:
    started, released, ended = threading.Event(), threading.Event(), threading.Event()

    @tool
    def work(ctx: ToolContext) -> None:
        """Work until told to stop."""
        started.set()
        released.wait(5)
        with pytest.raises(ApplicationError, match="The run was cancelled"):
            ctx.heartbeat()
        ended.set()

    rig = call.make_rig(tools=[work])
    spec, environment = await rig.pin(), rig.environment()
    fields: dict[str, Any] = {**REQUEST, "name": "work", "arguments": "{}"}
    task = asyncio.create_task(environment.run(rig.call_tool, CallToolRequest(spec=spec.digest, **fields)))
    assert await asyncio.to_thread(started.wait, 5)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    assert await asyncio.to_thread(ended.wait, 5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"a": ', "The arguments are not JSON: "),
        ("[" * 200_000, "The arguments are not JSON: "),
        ("[1]", "The arguments must be a JSON object. Call add again."),
        ("", "Invalid arguments. a: Field required"),
        ('{"a": "x"}', "Invalid arguments. a: Input should be a valid integer"),
        ('{"a": 1, "c": 2}', "Invalid arguments. c: Extra inputs are not permitted"),
    ],
)
async def test_invalid_arguments_are_told(call: Calling, arguments: str, text: str) -> None:
    outcome, said = told(await call(add, arguments))
    assert outcome == "error"
    assert said.startswith(text)
    assert "changed" not in said


class Checked(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def _look_up(cls, value: int) -> int:
        raise KeyError(SECRET)


async def test_a_validator_that_breaks_is_told(call: Calling) -> None:
    @tool
    async def check(given: Checked) -> str:
        """Check."""
        raise AssertionError("ran")

    assert told(await call(check, '{"given": {"value": 1}}')) == (
        "error",
        "check could not check its arguments: KeyError: '***'",
    )


def renamed(function: Callable[..., Any]) -> Tool:
    return tool(name="add")(function)


async def test_a_tool_that_is_gone_is_told(call: Calling) -> None:
    assert told(await call(add, '{"a": 1}', now=[])) == (
        "error",
        "The tool 'add' is no longer there. Go on without it.",
    )


async def test_a_tool_that_the_run_never_had_is_told(call: Calling) -> None:
    other = returning("x")
    assert told(await call(add, now=[add, other], name="returning")) == ("error", "There is no tool 'returning'.")


async def test_a_tool_may_take_more_than_it_did(call: Calling) -> None:
    async def wider(a: int, b: int = 1, c: int = 10) -> int:
        """Add more."""
        return a + b + c

    assert told(await call(add, '{"a": 1}', now=[renamed(wider)])) == ("ok", "12")


async def test_arguments_must_fit_what_the_model_was_shown(call: Calling) -> None:
    async def wider(a: int | str, b: int = 1) -> int:
        """Take text as well."""
        raise AssertionError("ran")

    outcome, text = told(await call(add, '{"a": "x"}', now=[renamed(wider)]))
    assert (outcome, text) == ("error", "Invalid arguments. a: 'x' is not of type 'integer'")


async def test_a_tool_that_takes_something_else_now_says_so(call: Calling) -> None:
    async def narrower(number: int) -> int:
        """Take one number."""
        raise AssertionError("ran")

    outcome, text = told(await call(add, '{"a": 1}', now=[renamed(narrower)]))
    assert outcome == "error"
    assert "number: Field required" in text
    assert text.endswith("(the tool has changed since the run began)")


async def test_the_pinned_policy_holds(call: Calling) -> None:
    pinned = raising(ValueError("bad"), idempotent=True)
    with pytest.raises(ToolError):
        await call(pinned, now=[raising(ValueError("bad"))])
    outcome, _ = told(await call(raising(ValueError("bad")), now=[pinned]))
    assert outcome == "error"


async def test_long_arguments_are_looked_up_in_the_message(make_rig: MakeRig) -> None:
    rig = make_rig(tools=[add])
    spec = await rig.pin()
    asked = [ToolCallPart(id=f"call_{n}", name="add", arguments=f'{{"a": {n}}}') for n in range(2)]
    temporal = FakeTemporal([Message(role="user"), Message(role="assistant", parts=tuple(asked))])
    fields: dict[str, Any] = {**REQUEST, "call_id": "", "name": "add", "index": 1}
    request = CallToolRequest(spec=spec.digest, **fields)
    result = await rig.environment(client=temporal).run(rig.call_tool, request)
    assert told(result) == ("ok", "2")
    with pytest.raises(ConversationUnavailableError):
        await rig.environment(client=FakeTemporal()).run(rig.call_tool, request)
