"""The schema check of workflow code agrees with `jsonschema`, and says what is wrong."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from perdure.agents.fitting import fitting_faults

_TYPES = ("integer", "number", "string", "boolean", "null", "array", "object")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_PATTERNS = ("^a", "b$", "^[ab]*$", "1")


def some_value(chance: Random, depth: int = 2) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.randint(-4, 4),
        lambda: chance.choice([0.5, 1.0, 2.5, -3.0]),
        lambda: "".join(chance.choices("ab1", k=chance.randint(0, 3))),
    ]
    if depth:
        kinds.append(lambda: [some_value(chance, depth - 1) for _ in range(chance.randint(0, 3))])
        kinds.append(lambda: {name: some_value(chance, depth - 1) for name in chance.sample("abc", k=2)})
    return chance.choice(kinds)()


def some_schema(chance: Random, depth: int = 3) -> Any:
    """Return a schema of one to three keywords, of all that are known."""
    if chance.random() < 0.05:
        return chance.random() < 0.7
    plain: dict[str, Callable[[], Any]] = {
        "type": lambda: chance.choice([chance.choice(_TYPES), chance.sample(_TYPES, k=2)]),
        "enum": lambda: [some_value(chance) for _ in range(4)],
        "const": lambda: some_value(chance),
        "pattern": lambda: chance.choice(_PATTERNS),
        "uniqueItems": lambda: chance.random() < 0.7,
        "required": lambda: chance.sample("abc", k=chance.randint(0, 2)),
        "$ref": lambda: chance.choice(["#/$defs/a", "#/$defs/b"]),
        **{name: lambda: chance.randint(1, 3) for name in (*_NUMBERS, *_SIZES)},
    }
    names = ("additionalProperties", "propertyNames", "items", "not", "if", "then", "else")
    inner: dict[str, Callable[[], Any]] = {
        **{name: lambda: some_schema(chance, depth - 1) for name in names},
        **{
            name: lambda: [some_schema(chance, depth - 1) for _ in range(2)]
            for name in ("anyOf", "oneOf", "allOf")
        },
        "prefixItems": lambda: [some_schema(chance, depth - 1) for _ in range(2)],
        "properties": lambda: {name: some_schema(chance, depth - 1) for name in chance.sample("abc", k=2)},
        "patternProperties": lambda: {chance.choice(["^a", "b"]): some_schema(chance, depth - 1)},
    }
    known = {**plain, **inner} if depth else plain
    chosen = chance.sample(sorted(known), k=chance.randint(1, 3))
    return {name: known[name]() for name in chosen}


def test_it_agrees_with_jsonschema() -> None:
    chance, verdicts, keywords = Random(5), Counter[bool](), Counter[str]()
    for _ in range(2000):
        first, second = some_schema(chance, 0), some_schema(chance)
        if isinstance(first, dict):
            first.pop("$ref", None)  # it would refer to itself
        whole = {"allOf": [second], "$defs": {"a": first, "b": {"$ref": "#/$defs/a"}}}
        value = some_value(chance)
        expected = Draft202012Validator(whole).is_valid(value)
        assert (fitting_faults(whole, value) == []) == expected, (whole, value)
        verdicts[expected] += 1
        keywords.update(list(second) if isinstance(second, dict) else [])
    assert min(verdicts.values()) > 200, "one of the answers hardly came"
    assert len(keywords) == 31
    assert min(keywords.values()) > 50, "a keyword hardly came"


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
