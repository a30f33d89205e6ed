"""The offline model: deterministic, uses the tools offered, answers with sources, fits schemas."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import BlobRef, Message, ToolCallPart, tool_message, user_message
from perdure.contracts.spec import OutputSpec, ToolSpec
from perdure.errors import ModelCallError
from perdure.providers.base import ModelReply, ModelRequest, Provider
from perdure.providers.offline import OfflineProvider

FILES = {
    "docs/retries.md": (
        "# Retries\n\nA failed call is retried six times. The first wait is\ntwo seconds; it doubles.\n"
    ),
    "docs/limits.md": "# Limits\n\nThe default budget of a run is five dollars.\n",
    "docs/colours.md": "# Colours\n\nThe logo is blue.\n",
}


def spec(name: str, *, idempotent: bool = True, description: str = "", **parameters: Any) -> ToolSpec:
    required = [each for each, schema in parameters.items() if "default" not in schema]
    schema = {"type": "object", "properties": parameters, "required": required}
    return ToolSpec(name=name, description=description, parameters=schema, idempotent=idempotent)


STRING = {"type": "string"}
LIST = spec("list_files", description="List the files.", folder={"type": "string", "default": "."})
SEARCH = spec("search_text", description="Search all files for words.", query=STRING)
READ = spec("read_file", description="Read a text file.", path=STRING)


def search(query: str) -> str:
    hits = [
        f"{path}:{number}: {line}"
        for path, text in FILES.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if any(word in line.lower() for word in query.lower().split())
    ]
    return "\n".join(hits) or "No line matches."


def read(path: str) -> str:
    return "\n".join(f"{i}: {line}" for i, line in enumerate(FILES[path].splitlines(), start=1))


TOOLS: Mapping[str, Callable[..., str]] = {
    "list_files": lambda: "\n".join(FILES),
    "search_text": search,
    "read_file": read,
}


def read_blob(ref: BlobRef) -> bytes:
    raise AssertionError(ref)


async def ask(messages: list[Message], *tools: ToolSpec, **options: Any) -> ModelReply:
    provider = OfflineProvider()
    fragments = [provider.encode(message, read_blob) for message in messages]
    on_text = options.pop("on_text", [].append)
    options = {"model": "reader", "instructions": "", "fragments": fragments, "tools": tools, **options}
    return await provider.call(ModelRequest(**options), on_text)


async def converse(question: str, *tools: ToolSpec, **options: Any) -> list[Message]:
    """Run a conversation to its answer."""
    messages = [user_message(question)]
    for _ in range(15):
        reply = await ask(messages, *tools, **options)
        messages.append(reply.message)
        if not reply.message.tool_calls:
            return messages
        messages.extend(answer(call) for call in reply.message.tool_calls)
    raise AssertionError("no answer in 15 turns")


def answer(call: ToolCallPart) -> Message:
    try:
        return tool_message(call, TOOLS[call.name](**json.loads(call.arguments)))
    except KeyError as error:
        return tool_message(call, f"There is no {error}.", outcome="error")


def calls_of(messages: list[Message]) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for message in messages for call in message.tool_calls]


def test_it_is_a_provider() -> None:
    provider = OfflineProvider()
    provider.check()
    assert isinstance(provider, Provider)
    assert (provider.name, provider.protocol) == ("offline", "offline")


async def test_it_looks_around_reads_and_quotes_with_the_line() -> None:
    messages = await converse("How often is a failed call retried?", LIST, SEARCH, READ)
    calls = calls_of(messages)
    assert {name for name, _ in calls} == {"list_files", "search_text", "read_file"}
    assert ("read_file", {"path": "docs/retries.md"}) in calls
    text = messages[-1].text
    assert "A failed call is retried six times. [source: docs/retries.md:3]" in text
    assert "blue" not in text
    assert text.endswith("(offline:reader — rule-based extract, no language model)")
    assert messages[-1].stop == "end"


async def test_a_sentence_over_two_lines_is_quoted_whole() -> None:
    messages = await converse("How long is the first wait?", LIST, SEARCH, READ)
    assert "- The first wait is two seconds; it doubles. [source: docs/retries.md:3]" in messages[-1].text


async def test_the_same_conversation_gives_the_same_reply() -> None:
    first = await converse("What is the default budget of a run?", LIST, SEARCH, READ)
    second = await converse("What is the default budget of a run?", LIST, SEARCH, READ)
    assert [each.to_bytes() for each in first] == [each.to_bytes() for each in second]
    assert [call.id for call in first[1].tool_calls] == ["call_1_1", "call_1_2"]


async def test_no_call_is_made_twice_not_even_for_the_next_question() -> None:
    messages = await converse("What is the default budget of a run?", LIST, SEARCH, READ)
    messages.append(user_message("And how long is the first wait?"))
    for _ in range(10):
        reply = await ask(messages, LIST, SEARCH, READ)
        messages.append(reply.message)
        messages.extend(map(answer, reply.message.tool_calls))
        if not reply.message.tool_calls:
            break
    calls = [json.dumps(call) for call in calls_of(messages)]
    assert len(calls) == len(set(calls))
    assert "two seconds" in messages[-1].text


async def test_ids_are_unique_within_a_conversation() -> None:
    messages = await converse("Which budget does the default run have, and who retries?", LIST, SEARCH, READ)
    ids = [call.id for message in messages for call in message.tool_calls]
    assert len(ids) == len(set(ids)) > 2


async def test_errors_are_skipped_and_told() -> None:
    messages = await converse("What does docs/gone.md say about the budget?", LIST, SEARCH, READ)
    calls = calls_of(messages)
    assert calls.count(("read_file", {"path": "docs/gone.md"})) == 1
    assert "five dollars" in messages[-1].text
    assert "1 tool call failed; read_file: There is no 'docs/gone.md'." in messages[-1].text


async def test_it_stops_after_eight_tool_turns() -> None:
    messages = [user_message("What is the budget?")]
    for i in range(8):
        call = ToolCallPart(id=f"c{i}", name="search_text", arguments=json.dumps({"query": str(i)}))
        messages += [
            Message(role="assistant", parts=(call,)),
            tool_message(call, f"docs/{i}.md:1: the budget {i}"),
        ]
    assert not (await ask(messages, LIST, SEARCH, READ)).message.tool_calls


@pytest.mark.parametrize("options", [{"may_call_tools": False}, {"tools": ()}])
async def test_the_final_call_answers_with_what_it_has(options: dict[str, Any]) -> None:
    messages = (await converse("How often is a failed call retried?", LIST, SEARCH, READ))[:-1]
    reply = await ask(messages, **{"tools": (LIST, SEARCH, READ), **options})
    assert not reply.message.tool_calls
    assert "six times" in reply.message.text


async def test_one_call_a_turn_where_parallel_calls_are_off() -> None:
    options = {"settings": ModelSettings(parallel_tool_calls=False)}
    messages = await converse("How often is a failed call retried?", LIST, SEARCH, READ, **options)
    assert max(len(message.tool_calls) for message in messages) == 1
    assert "six times" in messages[-1].text


async def test_which_files_there_are_needs_no_reading() -> None:
    messages = await converse("Which files are there?", LIST, SEARCH, READ)
    assert calls_of(messages) == [("list_files", {})]
    assert all(f"- {path}\n" in messages[-1].text for path in FILES)


async def test_what_is_quoted_stands_in_the_order_of_its_source() -> None:
    late = "At dawn the tide is not high yet, whatever the people of the harbour may say about it."
    notes = f"# Sea\n\n{late}\n\nThe tide is high at noon.\n"
    call = ToolCallPart(id="c", name="read_file", arguments=json.dumps({"path": "sea.md"}))
    text = "\n".join(f"{i}: {line}" for i, line in enumerate(notes.splitlines(), start=1))
    messages = [user_message("When is the high tide?"), Message(role="assistant", parts=(call,))]
    answer = (await ask([*messages, tool_message(call, text)])).message.text
    first, second = (answer.index(f"[source: sea.md:{line}]") for line in (3, 5))
    assert first < second, "the better passage stands first, though it comes later in its source"


async def test_a_source_that_holds_most_of_the_best_comes_first() -> None:
    def hit(source: str, text: str) -> dict[str, str]:
        return {"path": source, "text": text}

    said = ["The tide is high at dawn.", "At noon the tide is low.", "High tides come with the moon."]
    found = json.dumps([hit("a.md", "A tide is high."), *(hit("sea.md", text) for text in said)])
    call = ToolCallPart(id="c", name="search", arguments='{"query": "tide"}')
    messages = [user_message("When is the high tide?"), Message(role="assistant", parts=(call,))]
    answer = (await ask([*messages, tool_message(call, found)])).message.text
    assert answer.index("[source: sea.md]") < answer.index("[source: a.md]")


async def test_without_tools_it_quotes_from_the_request() -> None:
    filler = "Bread is baked in the morning, and sold at noon. " * 15
    reply = await ask([user_message(f"When does the harbour close? {filler}The harbour closes at nine.")])
    assert "- The harbour closes at nine. [source: request]" in reply.message.text


async def test_without_anything_it_says_so() -> None:
    reply = await ask([user_message("When does the harbour close?")])
    assert reply.message.text.startswith(
        "No tool may be called, and nothing in the conversation speaks of harbour"
    )


@pytest.mark.parametrize(
    ("tool", "question", "arguments"),
    [
        (spec("get_weather", idempotent=False, city=STRING), "What is the weather in Paris?", {"city": "Paris"}),
        (spec("get_order", order_id=STRING), "What is the state of order A-1042?", {"order_id": "A-1042"}),
        (spec("fetch_url", url=STRING), "What does https://example.com/a say?", {"url": "https://example.com/a"}),
        (spec("roll_dice", idempotent=False, sides={"type": "integer"}), "Roll dice of 20 sides.", {"sides": 20}),
        (
            spec("convert", amount={"type": "number", "minimum": 10}, unit={"enum": ["km", "miles"]}),
            "Convert the amount 3 to miles",
            {"amount": 10, "unit": "miles"},
        ),
        (
            spec("web_search", queries={"type": "array", "items": STRING}),
            "tides moon",
            {"queries": ["tides", "moon"]},
        ),
        (spec("grep", pattern=STRING, description="Search lines."), "tides and moon", {"pattern": "tides|moon"}),
        (
            spec("search_docs", query=STRING, limit={"type": "integer", "default": 5, "maximum": 8}),
            "Find tides, limit 20",
            {"query": "tides limit 20", "limit": 8},
        ),
        (spec("ask_expert", task=STRING), "Ask an expert: why?", {"task": "Ask an expert: why?"}),
        (spec("list_dir", path=STRING), "What is in this folder?", {"path": "."}),
        (spec("book_seats", seats={"type": "integer"}), "Book seats", {"seats": 1}),
        (
            spec("book_room", email=STRING, date={"type": "string", "format": "date"}),
            "Book a room on 2030-01-31 for ann@example.org",
            {"email": "ann@example.org", "date": "2030-01-31"},
        ),
        (
            spec("post_note", idempotent=False, text=STRING, is_public={"type": "boolean"}),
            'Post a note: "Tea at five"',
            {"text": "Tea at five", "is_public": False},
        ),
    ],
)
async def test_arguments_come_from_the_question(tool: ToolSpec, question: str, arguments: dict[str, Any]) -> None:
    message = (await ask([user_message(question)], tool)).message
    assert calls_of([message]) == [(tool.name, arguments)]
    assert message.stop == "tool_calls"


@pytest.mark.parametrize("question", ["Is e-mail old?", "Summarise the report.", "Who deletes docs/limits.md?"])
async def test_a_tool_with_effects_needs_to_be_asked_for(question: str) -> None:
    tools = (
        spec("send_email", idempotent=False, to=STRING),
        spec("publish_report", idempotent=False, text=STRING),
        spec("remove_file", idempotent=False, path=STRING),
    )
    assert not (await ask([user_message(question)], *tools)).message.tool_calls


async def test_what_has_effects_comes_last_and_once() -> None:
    publish = spec("publish_report", idempotent=False, text=STRING)
    messages = await converse(
        "Find how often a failed call is retried and publish a report.", publish, SEARCH, READ
    )
    calls = calls_of(messages)
    assert [name for name, _ in calls].index("publish_report") == len(calls) - 1
    assert "A failed call is retried six times." in calls[-1][1]["text"]


async def test_json_results_are_read_and_their_ids_followed() -> None:
    tools = (spec("search_tickets", query=STRING), spec("get_ticket", ticket_id=STRING))
    messages = [user_message("Why is the printer on fire?")]
    (call,) = (await ask(messages, *tools)).message.tool_calls
    found = json.dumps([{"ticket_id": "T7", "title": "printer on fire"}])
    messages += [Message(role="assistant", parts=(call,)), tool_message(call, found)]
    (call,) = (await ask(messages, *tools)).message.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_ticket", {"ticket_id": "T7"})
    record = json.dumps({"ticket_id": "T7", "cause": "The printer caught fire because of the toner."})
    messages += [Message(role="assistant", parts=(call,)), tool_message(call, record)]
    assert "- The printer caught fire because of the toner." in (await ask(messages, *tools)).message.text


@pytest.mark.parametrize(
    ("result", "quote"),
    [
        ([{"path": "a.md", "line": 4, "text": "The tide rises twice a day."}], "twice a day. [source: a.md:4]"),
        ({"items": [{"url": "https://x.org/t", "text": "The tide rises.\nSlowly."}]}, "[source: https://x.org/t]"),
        (["The tide rises twice.", "Boats leave."], "- The tide rises twice. [source: look_up]"),
        ({"tide": "high", "level_m": 4.5}, "- tide: high, level_m: 4.5 [source: look_up]"),
        ("The tide rises when the moon says so. Boats leave.", "- The tide rises when the moon says so."),
        ("{broken json about the tide that rises", "- {broken json about the tide that rises"),
        ([[[]]] * 3, "Nothing that the tools returned speaks of high tide."),
        ("", "Nothing that the tools returned speaks of high tide."),
        (7.5, "- look_up: 7.5 [source: look_up]"),
        (0, "- look_up: 0 [source: look_up]"),
        ("12 knots", "- look_up: 12 knots [source: look_up]"),
        ("No line holds it.", "Nothing that the tools returned speaks of high tide."),
        (["docs/sea.md", "docs/land.md"], "They list:\n- docs/sea.md\n- docs/land.md"),
        ("Files: docs/sea.md, docs/land.md", "They list:\n- docs/sea.md\n- docs/land.md"),
    ],
)
async def test_results_of_every_shape_are_read(result: Any, quote: str) -> None:
    call = ToolCallPart(id="c", name="look_up", arguments="{}")
    text = result if isinstance(result, str) else json.dumps(result)
    messages = [user_message("How high is the tide?"), Message(role="assistant", parts=(call,))]
    assert quote in (await ask([*messages, tool_message(call, text)])).message.text


async def test_paths_in_json_results_are_read_next() -> None:
    call = ToolCallPart(id="c", name="search_text", arguments='{"query": "high tide"}')
    found = json.dumps([{"path": "docs/land.md", "text": "No sea."}, {"path": "docs/sea.md", "text": "The tide!"}])
    messages = [user_message("How high is the tide?"), Message(role="assistant", parts=(call,))]
    message = (await ask([*messages, tool_message(call, found)], SEARCH, READ)).message
    assert calls_of([message]) == [("read_file", {"path": "docs/sea.md"})]


async def test_a_search_in_vain_is_tried_with_the_beginnings_of_words() -> None:
    messages = await converse("Which budgets?", SEARCH)
    assert calls_of(messages) == [("search_text", {"query": "budgets"}), ("search_text", {"query": "budget"})]
    assert "five dollars" in messages[-1].text


async def test_a_short_question_goes_with_the_one_before() -> None:
    messages = [*await converse("What is the default budget?", SEARCH), user_message("Why?")]
    assert "five dollars" in (await ask(messages)).message.text


async def test_what_perdure_says_is_no_question() -> None:
    messages = await converse("What is the default budget?", SEARCH)
    messages.append(user_message("The limit max_turns=3 is reached. Answer now.", author="perdure"))
    assert "five dollars" in (await ask(messages)).message.text


async def test_the_text_is_streamed_and_the_usage_estimated() -> None:
    heard: list[str] = []
    messages = (await converse("How often is a failed call retried?", LIST, SEARCH, READ))[:-1]
    reply = await ask(messages, on_text=heard.append)
    assert "".join(heard) == reply.message.text
    assert len(heard) >= 2
    size = sum(len(message.to_bytes()) for message in messages)
    assert reply.usage.input_tokens == -(-size // 4)
    assert reply.usage.output_tokens == -(-len(reply.message.text) // 4)
    assert reply.usage.cost_usd is None


async def test_it_keeps_to_max_output_tokens() -> None:
    messages = (await converse("How often is a failed call retried?", LIST, SEARCH, READ))[:-1]
    reply = await ask(messages, max_output_tokens=5)
    assert (len(reply.message.text), reply.message.stop, reply.usage.output_tokens) == (20, "length", 5)
    reply = await ask(messages[:1], LIST, SEARCH, max_output_tokens=13)
    assert [call.name for call in reply.message.tool_calls] == ["search_text"]
    assert reply.usage.output_tokens <= 13
    reply = await ask(messages[:1], LIST, SEARCH, max_output_tokens=1)
    assert (reply.message.parts, reply.message.stop) == ((), "length")


async def test_another_model_is_a_fatal_error() -> None:
    with pytest.raises(ModelCallError, match="use 'offline:reader'") as caught:
        await ask([user_message("Hello")], model="gpt")
    assert caught.value.kind == "fatal"


@pytest.mark.parametrize("delay", ["1", True, -1, None, float("inf")])
async def test_a_delay_that_is_none_is_a_fatal_error(delay: Any) -> None:
    options = ModelSettings.model_construct(extra={"delay_seconds": delay})
    with pytest.raises(ModelCallError, match="delay_seconds") as caught:
        await ask([user_message("Hello")], settings=options)
    assert caught.value.kind == "fatal"


async def test_the_delay_passes_between_the_pieces() -> None:
    started = time.monotonic()
    await ask([user_message("Hello")], settings=ModelSettings(extra={"delay_seconds": 0.05}))
    assert time.monotonic() - started >= 0.05


async def test_a_call_can_be_cancelled_in_its_delay() -> None:
    heard: list[str] = []
    options = ModelSettings(extra={"delay_seconds": 60})
    task = asyncio.create_task(ask([user_message("Hello")], settings=options, on_text=heard.append))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == []


async def test_much_text_is_ranked_quickly() -> None:
    line = "The worker retries a call when the rate limit of the model says so, and waits for it. "
    text = "\n\n".join(f"{line}Case {i} is about colours of the logo and nothing else." for i in range(1400))
    call = ToolCallPart(id="c", name="read_file", arguments='{"path": "big.md"}')
    messages = [user_message("When does the worker retry a rate limited call of the model?")]
    messages += [Message(role="assistant", parts=(call,)), tool_message(call, text)]
    times: list[float] = []
    for _ in range(3):
        started = time.process_time()
        await ask(messages)
        times.append(time.process_time() - started)
    assert len(text) > 190_000
    assert min(times) < 0.2, "about 0.02 s on a quiet machine; ten times that is a defect"


async def structured(schema: dict[str, Any], question: str = "How often is a failed call retried?") -> Any:
    output = OutputSpec(name="Answer", parameters=schema)
    messages = await converse(question, LIST, SEARCH, READ, output=output)
    value = json.loads(messages[-1].text)
    Draft202012Validator(schema).validate(value)
    return value


async def test_a_structured_output_holds_extracts_and_sources() -> None:
    schema = {
        "type": "object",
        "properties": {
            "summary": {"type": "string", "maxLength": 60},
            "sources": {"type": "array", "items": {"type": "string"}},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "found": {"type": "boolean"},
            "topic": {"enum": ["colours", "retries"]},
            "facts": {"type": "array", "items": {"$ref": "#/$defs/Fact"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["summary", "sources"],
        "$defs": {"Fact": {"type": "object", "properties": {"text": STRING, "source": STRING}}},
    }
    value = await structured(schema)
    assert value["summary"].startswith("A failed call is retried six times.")
    assert value["sources"] == ["docs/retries.md"]
    assert (value["found"], value["topic"]) == (True, "retries")
    assert 0 < value["confidence"] <= 1
    assert value["facts"][0]["source"] == "docs/retries.md"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"node": {"$ref": "#"}}},
        {
            "$ref": "#/$defs/Node",
            "$defs": {
                "Node": {
                    "type": "object",
                    "properties": {
                        "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                        "parent": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                        "id": {"type": "string", "format": "uuid"},
                    },
                    "required": ["children", "parent", "id"],
                }
            },
        },
        {
            "type": "object",
            "properties": {"code": {"type": "string", "pattern": "^[a-z]+$"}},
            "required": ["code"],
        },
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
        {"properties": {"names": {"items": {"enum": ["a", "b"]}, "uniqueItems": True, "minItems": 2}}},
        {"type": "object", "properties": {"steps": {"type": "array", "items": {"type": "boolean"}}, "any": True}},
        {"type": "object", "properties": {"half": {"type": "number", "multipleOf": 0.5, "minimum": 0.7}}},
        {"type": "object", "properties": {"odd": {"anyOf": [STRING, {"$ref": "#/$defs/none"}]}}},
        {
            "type": "object",
            "properties": {"when": {"type": "string", "format": "date-time"}},
            "required": ["extra"],
        },
        {"allOf": [{"properties": {"a": {"const": 3}}}, {"required": ["a"]}], "type": "object"},
        {
            "type": "object",
            "properties": {
                "shape": {
                    "oneOf": [
                        {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"]}
                        for kind in ("circle", "square")
                    ]
                },
                "pair": {
                    "type": "array",
                    "prefixItems": [STRING, {"type": "integer"}],
                    "minItems": 2,
                    "maxItems": 2,
                },
                "either": {"type": ["null", "integer"], "exclusiveMinimum": 4, "multipleOf": 5},
            },
            "required": ["shape", "pair", "either"],
        },
    ],
)
async def test_unusual_schemas_are_filled(schema: dict[str, Any]) -> None:
    await structured(schema)


NAMES = st.sampled_from(["summary", "sources", "count", "is_safe", "title", "confidence", "detail", "line", "x"])


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(-50, 50), st.integers(0, 40))
    return st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.lists(st.one_of(st.integers(), st.text(max_size=5)), min_size=1).map(lambda each: {"enum": each}),
        st.one_of(st.integers(), st.text(), st.none()).map(lambda each: {"const": each}),
        bounds.map(lambda each: {"type": "integer", "minimum": each[0], "maximum": each[0] + each[1]}),
        bounds.map(lambda each: {"type": "number", "exclusiveMinimum": each[0], "maximum": each[0] + 1 + each[1]}),
        bounds.map(
            lambda each: {"type": "string", "minLength": abs(each[0]), "maxLength": abs(each[0]) + each[1]}
        ),
    )


def branches(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    arrays = st.tuples(inner, st.integers(0, 3), st.integers(0, 3)).map(
        lambda each: {"type": "array", "items": each[0], "minItems": each[1], "maxItems": each[1] + each[2]}
    )
    objects = st.tuples(st.dictionaries(NAMES, inner, max_size=4), st.booleans()).map(
        lambda each: {
            "type": "object",
            "properties": each[0],
            "required": sorted(each[0]) if each[1] else [],
            "additionalProperties": False,
        }
    )
    return st.one_of(arrays, objects, st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each}))


SCHEMAS = st.recursive(leaves(), branches, max_leaves=8)


async def test_a_pattern_that_is_broken_does_not_break_the_reply() -> None:
    part = {"type": "string", "pattern": "("}
    output = OutputSpec(
        name="Out", parameters={"type": "object", "properties": {"a": {"anyOf": [part]}, "b": part}}
    )
    assert set(json.loads((await ask([user_message("Hello")], output=output)).message.text)) == {"a", "b"}


@settings(max_examples=150, deadline=None)
@given(schema=SCHEMAS, found=st.booleans())
def test_an_output_fits_its_schema(schema: dict[str, Any], found: bool) -> None:
    whole = {
        "type": "object",
        "properties": {"value": {"$ref": "#/$defs/Value"}},
        "required": ["value"],
        "$defs": {"Value": schema},
    }
    call = ToolCallPart(id="c", name="read_file", arguments='{"path": "docs/retries.md"}')
    result = tool_message(call, read("docs/retries.md") if found else "broken", outcome="ok" if found else "error")
    messages = [
        user_message("How often is a failed call retried?"),
        Message(role="assistant", parts=(call,)),
        result,
    ]
    reply = asyncio.run(ask(messages, output=OutputSpec(name="Out", parameters=whole)))
    Draft202012Validator(whole).validate(json.loads(reply.message.text))
