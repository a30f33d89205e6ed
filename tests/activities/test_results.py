"""Cutting what a tool returned to the bytes that its policy allows."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.activities._results import encodable, to_content
from perdure.contracts.messages import ContentPart, ImagePart, TextPart

texts = st.text(max_size=60)
NOTICE = "\n[cut by perdure: "


@given(texts, st.integers(0, 80))
def test_what_is_shown_is_a_beginning_within_the_bound(text: str, most: int) -> None:
    (part,) = to_content(text, most)
    assert isinstance(part, TextPart)
    shown, notice, _ = part.text.partition(NOTICE)
    assert encodable(text).startswith(shown)
    assert bool(notice) == (len(encodable(text).encode()) > most)
    assert len(shown.encode()) <= max(most, 0)
    assert not notice or len(shown.encode()) > most - 4, "no more is cut than the last character"


@given(st.lists(texts, min_size=1, max_size=5), st.integers(0, 100))
def test_parts_share_the_bound(written: list[str], most: int) -> None:
    parts: list[ContentPart] = [TextPart(text=encodable(text)) for text in written]
    kept = to_content(parts, most)
    shown = [part.text.partition(NOTICE)[0] for part in kept if isinstance(part, TextPart)]
    assert len(kept) == len(written)
    assert sum(len(text.encode()) for text in shown) <= most


def test_pictures_are_never_cut() -> None:
    image = ImagePart(url="https://example.org/a.png")
    kept = to_content((TextPart(text="long"), image), 2)
    assert kept[1] is image
    assert to_content(image, 0) == (image,)


@given(st.text(st.characters(codec="utf-8")))
def test_text_that_can_be_encoded_is_left_alone(text: str) -> None:
    assert encodable(text) == text
