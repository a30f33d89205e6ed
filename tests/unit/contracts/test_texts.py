"""Texts that are no longer than they may be."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from perdure.contracts.texts import cut

encodable = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\x00长'))


@given(encodable, st.integers(0, 200))
def test_a_text_takes_no_more_bytes_than_it_may(text: str, most: int) -> None:
    shown = cut(text, most)
    kept = shown.removesuffix("…")
    if len(to_json(text)) - 2 <= most:
        assert shown == text
    else:
        assert shown == f"{kept}…"
        assert text.startswith(kept)
        assert len(to_json(kept)) - 2 <= most


def test_it_keeps_as_much_as_it_can() -> None:
    assert cut("x" * 100, 90) == "x" * 90 + "…"
    assert cut("长" * 100, 90) == "长" * 30 + "…"
    assert cut("\n" * 100, 90) == "\n" * 45 + "…"
