"""OpenAPI's styles, by the table of its specification."""

from typing import Any

import pytest

from perdure.tools._styles import header_value, path_value, query_pairs, scalar

ARRAY = ["blue", "black", "brown"]
OBJECT = {"R": 100, "G": 200, "B": 150}


@pytest.mark.parametrize(
    ("style", "explode", "array", "object_"),
    [
        ("simple", False, "blue,black,brown", "R,100,G,200,B,150"),
        ("simple", True, "blue,black,brown", "R=100,G=200,B=150"),
        ("label", False, ".blue,black,brown", ".R,100,G,200,B,150"),
        ("label", True, ".blue.black.brown", ".R=100.G=200.B=150"),
        ("matrix", False, ";color=blue,black,brown", ";color=R,100,G,200,B,150"),
        ("matrix", True, ";color=blue;color=black;color=brown", ";R=100;G=200;B=150"),
    ],
)
def test_paths(style: str, explode: bool, array: str, object_: str) -> None:
    assert path_value("color", ARRAY, style, explode=explode) == array
    assert path_value("color", OBJECT, style, explode=explode) == object_


@pytest.mark.parametrize(
    ("style", "explode", "value", "written"),
    [
        ("form", True, ARRAY, "color=blue&color=black&color=brown"),
        ("form", False, ARRAY, "color=blue,black,brown"),
        ("form", True, OBJECT, "R=100&G=200&B=150"),
        ("form", False, OBJECT, "color=R,100,G,200,B,150"),
        ("spaceDelimited", False, ARRAY, "color=blue%20black%20brown"),
        ("pipeDelimited", False, ARRAY, "color=blue%7Cblack%7Cbrown"),
        ("deepObject", True, OBJECT, "color[R]=100&color[G]=200&color[B]=150"),
        ("deepObject", True, {"a": {"b": [1, 2]}}, "color[a][b][0]=1&color[a][b][1]=2"),
        ("form", True, "a&b=c d", "color=a%26b%3Dc%20d"),
    ],
)
def test_queries(style: str, explode: bool, value: Any, written: str) -> None:
    pairs = query_pairs("color", value, style, explode=explode)
    assert "&".join(f"{name}={text}" for name, text in pairs) == written


def test_reserved_characters_and_headers() -> None:
    assert query_pairs("a", "x/y?z", "form", explode=True, allow_reserved=True) == [("a", "x/y?z")]
    assert header_value(ARRAY, explode=False) == "blue,black,brown"
    assert header_value(OBJECT, explode=True) == "R=100,G=200,B=150"
    assert header_value(OBJECT, explode=False) == "R,100,G,200,B,150"


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (None, ""), (1.0, "1"), (1.5, "1.5"), (10**20, "1" + "0" * 20), ("é", "é")]
)
def test_scalars(value: Any, text: str) -> None:
    assert scalar(value) == text
