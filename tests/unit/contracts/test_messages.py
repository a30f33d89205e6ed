"""Messages, and the shorthands that make them."""

from typing import Any

import pytest
from pydantic import ValidationError

from perdure.contracts.messages import (
    BlobRef,
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    tool_message,
    user_message,
)

BLOB = BlobRef(digest="sha256:" + "0" * 64, size_bytes=3)
CALL = ToolCallPart(id="call_1", name="search", arguments="{}")


@pytest.mark.parametrize("part", [ImagePart, FilePart])
@pytest.mark.parametrize("sources", [{}, {"url": "http://x", "blob": BLOB}])
def test_media_have_exactly_one_source(part: Any, sources: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either url or blob"):
        part(**sources)


def test_text_is_the_text_parts_alone() -> None:
    parts = (ReasoningPart(text="hm"), TextPart(text="a"), CALL, TextPart(text="b"))
    message = Message(role="assistant", parts=parts)
    assert message.text == "ab"
    assert message.tool_calls == (CALL,)
    assert Message(role="user").text == ""


def test_a_users_message() -> None:
    assert user_message("hi", author="perdure") == Message(
        role="user", parts=(TextPart(text="hi"),), author="perdure"
    )


def test_a_tools_message_ties_the_answer_to_the_call() -> None:
    message = tool_message(CALL, "found", outcome="unknown")
    result = ToolResultPart(call_id="call_1", name="search", content=(TextPart(text="found"),), outcome="unknown")
    assert message == Message(role="tool", parts=(result,))


def test_a_tools_message_may_hold_pictures() -> None:
    content = (TextPart(text="see"), ImagePart(blob=BLOB))
    result = tool_message(CALL, content).parts[0]
    assert isinstance(result, ToolResultPart)
    assert (result.content, result.outcome) == (content, "ok")
