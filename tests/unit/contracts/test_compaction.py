"""How an epoch is made of the one before."""

import pytest

from perdure.contracts.compaction import (
    CompactedPart,
    compacted,
    cut_result,
    estimate_tokens,
    moved_slots,
    weigh,
)
from perdure.contracts.messages import ImagePart, Message, TextPart, ToolCallPart, tool_message, user_message

CALL = ToolCallPart(id="c", name="look", arguments="{}")
LONG = tool_message(CALL, "x" * 1000)
MESSAGES = [user_message("do it"), Message(role="assistant", parts=(CALL,)), LONG, user_message("and now?")]


def test_slots_are_kept_cut_and_new() -> None:
    summary = user_message("so far", author="perdure")
    parts = (
        CompactedPart(start=0, stop=1),
        CompactedPart(message=summary),
        CompactedPart(start=1, stop=3, cut_bytes=0),
        CompactedPart(start=3, stop=4),
    )
    made = compacted(MESSAGES, parts)
    assert made[:3] == [MESSAGES[0], summary, MESSAGES[1]]
    assert made[3].parts[0].content == (  # pyright: ignore[reportAttributeAccessIssue]
        TextPart(text="[cut by perdure to make room: 0 of 1000 bytes kept]"),
    )
    assert made[4] == MESSAGES[3]
    assert moved_slots(parts) == {0: 0, 3: 4}, "a result that was cut answers no other call"


@pytest.mark.parametrize(("keep", "shown"), [(0, 0), (100, 100), (799, 799), (800, 1000), (5000, 1000)])
def test_a_result_is_cut_where_that_saves_something(keep: int, shown: int) -> None:
    text = cut_result(LONG, keep).parts[0].content[0].text  # pyright: ignore[reportAttributeAccessIssue]
    assert text.count("x") == shown


def test_a_cut_is_a_whole_number_of_characters() -> None:
    text = cut_result(tool_message(CALL, "ü" * 1000), 101).parts[0].content[0].text  # pyright: ignore[reportAttributeAccessIssue]
    assert text.startswith("ü" * 50 + "\n[cut by perdure to make room: 101 of 2000 bytes kept]")


def test_attachments_go_with_the_result() -> None:
    picture = tool_message(CALL, (TextPart(text="see"), ImagePart(url="http://x/y.png")))
    content = cut_result(picture, 100).parts[0].content  # pyright: ignore[reportAttributeAccessIssue]
    assert content == (
        TextPart(text="see\n[cut by perdure to make room: 3 of 3 bytes kept, 1 attachments dropped]"),
    )
    assert weigh(picture)[1] == 1
    assert estimate_tokens(picture, 0.3) > 1500


def test_other_messages_are_never_cut() -> None:
    assert cut_result(MESSAGES[1], 0) is MESSAGES[1]
    assert cut_result(MESSAGES[0], 0) is MESSAGES[0]
