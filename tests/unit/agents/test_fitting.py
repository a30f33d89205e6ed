"""The schema check of workflow code agrees with `jsonschema`, and says what is wrong."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from perdure.agents.fitting import fitting_faults

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([0.5, 1.0, 2.5, -3.0])
    | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_TYPES = ("integer", "number", "string", "boolean", "null", "array", "object")
plain = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(_TYPES) | st.lists(st.sampled_from(_TYPES), min_size=1, max_size=3, unique=True),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        "pattern": st.sampled_from(["^a", "b$", "^[ab]*$", "1"]),
        "multipleOf": st.integers(1, 3),
        "uniqueItems": st.booleans(),
        "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        **{name: st.integers(-3, 3) for name in _BOUNDS},
        **{name: st.integers(0, 3) for name in _SIZES},
    },
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": named,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=2),
            "additionalProperties": inner | st.booleans(),
            "propertyNames": inner,
            "items": inner | st.booleans(),
            "prefixItems": some,
            "anyOf": some,
            "oneOf": some,
            "allOf": some,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b"]),
        },
    )


# Several of the two together: half of all schemas have keywords of either kind.
schemas = st.recursive(plain, lambda inner: st.builds(dict.__or__, plain, _larger(inner)), max_leaves=6)


@settings(max_examples=150)
@given(schema=schemas, value=values, definition=plain)
def test_it_agrees_with_jsonschema(schema: dict[str, Any], value: Any, definition: dict[str, Any]) -> None:
    whole = {**schema, "$defs": {"a": definition, "b": {"$ref": "#/$defs/a"}}}
    expected = Draft202012Validator(whole).is_valid(value)
    assert (fitting_faults(whole, value) == []) == expected


class Inner(BaseModel):
    code: str = Field(pattern="^[A-Z]+$")
    parts: list["Inner"] = []


class Order(BaseModel):
    sku: Inner
    count: int | None = Field(default=None, ge=1)
    kind: str | int = "x"


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({"sku": {"code": "A", "parts": [{"code": "B"}]}, "count": 2}, []),
        ({"sku": {"code": "a"}}, ['sku.code: "a" should match ^[A-Z]+$']),
        ({"sku": {"code": "A", "parts": [{}]}}, ["sku.parts[0]: 'code' is missing"]),
        ({"sku": {"code": "A"}, "count": 0}, ["count: 0 should be at least 1"]),
        ({"sku": {"code": "A"}, "kind": []}, ["kind: [] fits none of the forms that are allowed"]),
        ([], ["[] should be of type object"]),
    ],
)
def test_it_says_what_is_wrong(value: Any, faults: list[str]) -> None:
    assert fitting_faults(Order.model_json_schema(), value) == faults


def test_what_it_does_not_know_is_let_through() -> None:
    assert fitting_faults({"$ref": "https://example.com/other"}, 1) == []
    assert fitting_faults({"$ref": "#/$defs/gone"}, 1) == []
    assert fitting_faults({"pattern": "(?<=a)b"}, "x") == []  # nothing that could take exponential time
    assert fitting_faults({"type": "nonsense"}, 1) == ["1 should be of type nonsense"]
    assert fitting_faults(False, 1) == ["nothing is allowed here"]


def test_a_circle_ends() -> None:
    assert fitting_faults({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, 1) == []
