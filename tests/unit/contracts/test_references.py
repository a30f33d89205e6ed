"""References of a task's input: what is one, what only looks like one, and what they become."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.references import Reference, follow, references, render

VALUES: dict[str, Any] = {"a": {"title": "T", "list": [1, {"x": "deep"}], "none": None}, "b": "plain"}


def rendered(text: str) -> str:
    (piece,) = render(text, lambda reference: follow(VALUES[reference.task], reference.path))
    return str(piece)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("Say {{b}}!", "Say plain!"),
        ("{{ a.title }} {{a.list.1.x}}", "T deep"),
        ("{{a.list}} {{a.none}}", '[1, {"x": "deep"}] null'),
        (r"\{{b}} {{b}}", "{{b}} plain"),
        ("{b} }} {", "{b} }} {"),
        ("", ""),
    ],
)
def test_a_reference_becomes_its_value(text: str, becomes: str) -> None:
    assert rendered(text) == becomes


def test_a_reference_may_stay() -> None:
    pieces = render(
        "See {{artifacts.outline.0}}{{b}} and {{artifacts.x}}",
        lambda reference: reference if reference.artifact else "plain",
    )
    assert [piece if isinstance(piece, str) else piece.artifact for piece in pieces] == [
        "See ",
        "outline",
        "plain and ",
        "x",
    ]


def test_what_a_value_says_is_no_reference() -> None:
    assert render("{{a}}", lambda _: "{{b}}") == ["{{b}}"]


@pytest.mark.parametrize("bad", ["{{}}", "{{a b}}", "{{a.}}", "{{.a}}", "{{a..b}}", "{{1a}}", "{{a"])
def test_what_only_looks_like_one_is_told(bad: str) -> None:
    assert references(f"x {{{{ok}}}} {bad}") == ([Reference("ok", (), "{{ok}}")], [bad])


@given(st.text())
def test_any_text_can_be_escaped(text: str) -> None:
    escaped = text.replace("{{", r"\{{")
    while "{{{" in text or r"\{{" in text:  # these would need an escape of their own
        return
    assert references(escaped) == ([], [])
    assert render(escaped, lambda _: "never") == [text]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (("titel",), "there is no 'titel': it is an object without it"),
        (("title", "x"), "there is no 'title.x': title is text"),
        (("list", "2"), "there is no 'list.2': list is a list of 2"),
        (("none", "x"), "there is no 'none.x': none is null"),
    ],
)
def test_a_path_that_leads_nowhere_says_how_far_it_goes(path: tuple[str, ...], problem: str) -> None:
    with pytest.raises(LookupError) as raised:
        follow(VALUES["a"], path)
    assert raised.value.args[0] == problem
