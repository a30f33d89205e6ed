"""What spans say of calls: figures always, content only when it is asked for."""

import json
from decimal import Decimal

from perdure.contracts import span_names as names
from perdure.contracts.call_spans import describe_call
from perdure.contracts.calls import (
    CallModelRequest,
    CallModelResult,
    CallToolRequest,
    CallToolResult,
    LoadAgentRequest,
    RunToolRequest,
    SharedModelRequest,
)
from perdure.contracts.messages import Message, TextPart, ToolCallPart, tool_message
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.usage import Usage
from perdure.telemetry.describe import content_attributes, result_attributes, tool_outcome
from perdure.telemetry.notes import CallNotes

SPEC = AgentSpec(name="a", instructions="Be kind.", models=(ModelSpec(name="openai:gpt-5-mini"),))
CALL = ToolCallPart(id="c1", name="look", arguments='{"key": "sk-secret"}')
REPLY = Message(role="assistant", parts=(TextPart(text="hello"), CALL), model="openai:gpt-5-mini-2025", stop="end")


def _redact(text: str) -> str:
    return text.replace("sk-secret", "***")


def test_calls_have_the_names_of_the_conventions() -> None:
    asked = CallModelRequest(spec="d", slots=1)
    chat = {names.OPERATION: "chat", names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-5-mini"}
    assert describe_call("perdure.call_model", asked, SPEC) == ("chat gpt-5-mini", chat)
    assert describe_call("perdure.call_model", asked, None) == ("chat", {names.OPERATION: "chat"})
    shared = SharedModelRequest(call=asked, workflow_id="w", run_id="r", asker="x")
    assert describe_call("perdure.ask_shared_model", shared, SPEC) == ("chat gpt-5-mini", chat)
    tool = {names.OPERATION: "execute_tool", names.TOOL: "look"}
    ran = CallToolRequest(spec="d", call_slot=1, slot=2, key="k", name="look")
    assert describe_call("perdure.call_tool", ran, SPEC) == ("execute_tool look", tool)
    alone = RunToolRequest(tool=ToolSpec(name="look", parameters={}), arguments="{}", key="k")
    assert describe_call("perdure.run_tool", alone, None) == ("execute_tool look", tool)
    assert describe_call("perdure.load_agent", LoadAgentRequest(agent="a"), None) == ("load_agent", {})
    assert describe_call("mine", None, None) == ("mine", {})


def test_a_reply_tells_its_figures() -> None:
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=3, cost_usd=Decimal("0.5"))
    result = CallModelResult(message=REPLY, usage=usage, problem="no JSON", saved=usage)
    assert result_attributes(result) == {
        names.INPUT_TOKENS: 10,
        names.OUTPUT_TOKENS: 5,
        names.CACHED_TOKENS: 3,
        names.COST: 0.5,
        names.RESPONSE_MODEL: "gpt-5-mini-2025",
        names.FINISH_REASONS: ("end",),
        names.PROBLEM: True,
        names.IS_SAVED: True,
    }


def test_a_result_tells_how_it_went() -> None:
    result = CallToolResult(slot=2, message=tool_message(CALL, "refused", outcome="error"), is_saved=True)
    told = result_attributes(result)
    assert told == {
        names.OUTCOME: "error",
        names.TOOL_TYPE: "function",
        names.TOOL_CALL: "c1",
        names.IS_SAVED: True,
    }
    assert tool_outcome(result) == "error"
    assert tool_outcome("a user's own") == ""


def test_content_is_without_secrets() -> None:
    notes = CallNotes(
        spec=SPEC, messages=lambda: [Message(role="user", parts=(TextPart(text="sk-secret"),)), REPLY]
    )
    told = content_attributes(notes, CallModelResult(message=REPLY, usage=Usage()), _redact)
    asked = json.loads(str(told[names.INPUT_MESSAGES]))
    assert asked[0] == {"role": "user", "parts": [{"type": "text", "content": "***"}]}
    assert asked[1]["parts"][1] == {
        "type": "tool_call",
        "id": "c1",
        "name": "look",
        "arguments": '{"key": "***"}',
    }
    assert json.loads(str(told[names.INSTRUCTIONS])) == [{"type": "text", "content": "Be kind."}]
    assert "hello" in str(told[names.OUTPUT_MESSAGES])


def test_the_content_of_a_tool_call() -> None:
    result = CallToolResult(slot=2, message=tool_message(CALL, "it is sk-secret"))
    told = content_attributes(CallNotes(arguments=CALL.arguments), result, _redact)
    assert told[names.TOOL_ARGUMENTS] == '{"key": "***"}'
    part = {"type": "tool_call_response", "id": "c1", "response": [{"type": "text", "content": "it is ***"}]}
    assert json.loads(str(told[names.TOOL_RESULT])) == [part]
