"""A worker remembers what an attempt made that Temporal had given up: what was recorded counts.

Attempt 1 loses its link to Temporal, attempt 2 runs elsewhere and its result is recorded; then attempt 1 ends, and
the cache of its worker has a message that is in no history.
"""

from typing import Any

import pytest

from perdure import tool
from perdure.activities._cache import ConversationKey, Slot
from perdure.contracts.calls import CallToolRequest, CopyConversationRequest, SlotMessage
from perdure.contracts.digests import ConversationDigest, message_digest, told_digest
from perdure.contracts.messages import Message, TextPart, ToolCallPart, tool_message, user_message
from perdure.testing import ScriptedModel
from perdure.testing.scripted import calls
from tests.activities.conftest import MakeRig
from tests.activities.rig import KEY, FakeTemporal, Rig

LONG = "x" * 2000
CALL = ToolCallPart(id="call_1", name="note", arguments=f'{{"text": "recorded {LONG}"}}')
OTHER = ToolCallPart(id="call_9", name="note", arguments=f'{{"text": "given up {LONG}"}}')
RESULT = tool_message(CALL, "noted")


@tool
def note(text: str) -> str:
    """Note a text."""
    return text.split()[0]


def asks(call: ToolCallPart) -> Message:
    return Message(role="assistant", parts=(call,), model="scripted:x", stop="tool_calls")


def digest(*messages: Message) -> str:
    return ConversationDigest(map(message_digest, messages)).told()


def remember(rig: Rig, *messages: Message) -> None:
    rig.lookup.cache.put(KEY, {number: Slot(message) for number, message in enumerate(messages)})


async def prompt(
    rig: Rig, model: ScriptedModel, *new: SlotMessage, temporal: FakeTemporal | None = None, **options: Any
) -> list[Message]:
    """Return the messages that the model was sent."""
    await rig.ask(await rig.pin(), new=new, client=temporal, **options)
    return [Message.model_validate_json(each.body) for each in model.requests[-1].fragments]


@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "given up"])
async def test_the_prompt_is_what_was_recorded(make_rig: MakeRig, is_recorded: bool) -> None:
    model = ScriptedModel(["done"])
    rig = make_rig(model, tools=[note])
    recorded = (user_message("go"), asks(CALL), RESULT)
    temporal = FakeTemporal(recorded)
    remember(rig, recorded[0], asks(CALL if is_recorded else OTHER), RESULT)
    found = await prompt(rig, model, temporal=temporal, slots=3, digest=digest(*recorded))
    assert tuple(found) == recorded
    assert bool(temporal.queries) != is_recorded
    assert rig.lookup.cache.get(KEY)[1].message == recorded[1]


async def test_a_message_that_was_sent_to_the_run_is_not_taken_for_a_late_reply(make_rig: MakeRig) -> None:
    model = ScriptedModel(["done"])
    rig = make_rig(model)
    recorded = (user_message("go"), user_message("stop that"))
    remember(rig, recorded[0], Message(role="assistant", parts=(TextPart(text="late"),), stop="end"))
    stub = SlotMessage(slot=1, message=Message(role="user"), sent="m1")
    found = await prompt(rig, model, stub, temporal=FakeTemporal(recorded), slots=2, digest=digest(*recorded))
    assert tuple(found) == recorded


async def test_what_comes_with_the_request_is_what_was_recorded(make_rig: MakeRig) -> None:
    """A call was given up and is told as unknown; its worker has the result all the same."""
    model = ScriptedModel(["done"])
    rig = make_rig(model, tools=[note])
    unknown = tool_message(CALL, "outcome unknown", outcome="unknown")
    remember(rig, user_message("go"), asks(CALL), RESULT)
    found = await prompt(rig, model, SlotMessage(slot=2, message=unknown), slots=3)
    assert found[2] == unknown


async def test_a_repeated_result_is_that_of_its_source(make_rig: MakeRig) -> None:
    model = ScriptedModel(["done"])
    rig = make_rig(model, tools=[note])
    remember(rig, user_message("go"), asks(CALL), RESULT, tool_message(CALL, "late"))
    repeat = SlotMessage(slot=3, message=tool_message(CALL, ()), same_as=2)
    assert (await prompt(rig, model, repeat, slots=4))[3] == RESULT


async def test_a_tool_is_called_with_the_arguments_that_were_recorded(make_rig: MakeRig) -> None:
    rig = make_rig(tools=[note])
    spec = await rig.pin()
    remember(rig, user_message("go"), asks(OTHER))
    request = CallToolRequest(
        spec=spec.digest,
        call_slot=1,
        slot=2,
        key="k",
        name="note",
        call_digest=told_digest(message_digest(asks(CALL))),
    )
    temporal = FakeTemporal([user_message("go"), asks(CALL)])
    result = await rig.environment(client=temporal).run(rig.call_tool, request)
    assert result.message == tool_message(CALL, "recorded")


@pytest.mark.parametrize("is_known", [True, False], ids=["digest", "none"])
async def test_a_copy_is_of_what_was_recorded(make_rig: MakeRig, is_known: bool) -> None:
    rig = make_rig(tools=[note])
    spec = await rig.pin()
    recorded = (user_message("go"), asks(CALL), RESULT)
    old = ConversationKey("wf", "old", "main", 0)
    rig.lookup.cache.put(old, {1: Slot(asks(OTHER)), 2: Slot(tool_message(OTHER, "late"))})
    request = CopyConversationRequest(
        from_run_id="old", spec=spec.digest, start=0, stop=2, digest=digest(*recorded[:2]) if is_known else ""
    )
    environment = rig.environment(client=FakeTemporal(recorded))
    assert (await environment.run(rig.copy_conversation, request)).messages == recorded[:2]
    rig.lookup.cache.put(old, {2: Slot(tool_message(OTHER, "late"))})
    alone = request.model_copy(update={"start": 2, "stop": 3, "is_alone": True, "digest": ""})
    environment = rig.environment(client=FakeTemporal(recorded))
    assert (await environment.run(rig.copy_conversation, alone)).messages == (RESULT,)


def test_a_digest_is_of_what_is_recorded() -> None:
    """What is read back from history has the digest of what was written."""
    messages = [
        user_message("ünïcödé ☃"),
        calls(("note", {"text": "x", "n": 1.0, "big": 10**30})).model_copy(
            update={"vendor": {"x": {"b": [1e22, -0.0, None], "a": 2**70}}}
        ),
        tool_message(CALL, "r", outcome="error"),
    ]
    for message in messages:
        again = Message.model_validate_json(message.to_bytes())
        assert message_digest(again) == message_digest(message)
    assert len(digest(*messages)) == 16
    assert digest(*messages[:2]) != digest(*reversed(messages[:2])) != digest()
