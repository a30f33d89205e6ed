"""Values that fit a JSON schema, chosen by whoever knows the subject. Activity side; pure, no I/O.

Knows `$ref`, `allOf`, `anyOf`, `oneOf`, `const`, `enum`, the types and their bounds. It does not build strings for
a `pattern` that nothing in the evidence fits, and ignores `if`, `not`, `patternProperties` and `dependent…`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

Schema = Mapping[str, Any]

_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the value that is being made."""

    name: str = ""
    """The nearest property's name."""
    description: str = ""
    index: int = 0
    """Which item of the enclosing array."""
    depth: int = 0
    trail: frozenset[str] = frozenset()
    """The references followed to get here; one of them again means that the schema is recursive."""


class Chooser(Protocol):
    """Knows what to write where."""

    def choose_text(self, slot: Slot, schema: Schema) -> str:
        """Return a text that fits the string schema as well as possible."""
        ...

    def choose_number(self, slot: Slot, schema: Schema) -> float | None:
        """Return a number; None where none suggests itself."""
        ...

    def choose_flag(self, slot: Slot) -> bool:
        """Return true or false."""
        ...

    def choose_member(self, slot: Slot, members: list[Any]) -> Any:
        """Return one of the members."""
        ...

    def count_items(self, slot: Slot, items: Schema) -> int:
        """Return how many items an array should have."""
        ...


class SchemaFiller:
    """Makes values for the parts of one schema.

    Args:
        root: The whole schema; references are looked up in it.
        chooser: Chooses texts, numbers, flags and members.
    """

    def __init__(self, root: Schema, chooser: Chooser) -> None:
        self._root = root
        self._chooser = chooser

    def fill(self, schema: Any, slot: Slot | None = None) -> Any:
        """Return a value for `schema`."""
        slot = slot or Slot()
        if slot.depth > 2 * _DEEPEST:
            return None
        if not isinstance(schema, Mapping):
            return self._chooser.choose_text(slot, {})
        resolved, slot = self._resolve(cast("Schema", schema), slot)
        if description := resolved.get("description"):
            slot = replace(slot, description=str(description))
        if "const" in resolved:
            return resolved["const"]
        if members := resolved.get("enum"):
            return self._chooser.choose_member(slot, list(members))
        if options := resolved.get("anyOf") or resolved.get("oneOf"):
            return self._fill_option(resolved, list(options), slot)
        return self._fill_type(resolved, slot)

    def _resolve(self, schema: Schema, slot: Slot) -> tuple[Schema, Slot]:
        """Follow `$ref` and merge `allOf`."""
        merged: dict[str, Any] = dict(schema)
        for _ in range(_DEEPEST):
            reference = merged.pop("$ref", None)
            parts = [self._look_up(reference)] if reference else merged.pop("allOf", [])
            if not parts:
                break
            if reference:
                slot = replace(slot, trail=slot.trail | {reference})
            for part in parts:
                merged = _merge(part, merged)
        return merged, slot

    def _look_up(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                name = part.replace("~1", "/").replace("~0", "~")
                found = cast("Schema", found).get(name, {}) if isinstance(found, Mapping) else {}
        return cast("Schema", found)

    def _fill_option(self, schema: Schema, options: list[Schema], slot: Slot) -> Any:
        base = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        is_null_first = slot.depth >= _DEEPEST // 2
        ordered = sorted(
            options,
            key=lambda each: (self._is_recursive(each, slot), (each.get("type") == "null") != is_null_first),
        )
        values = (self.fill(_merge(base, option), slot) for option in ordered)
        first: Any = None
        for i, value in enumerate(values):
            first = value if i == 0 else first
            if self.is_valid(schema, value):
                return value
        return first

    def is_valid(self, schema: Schema, value: Any) -> bool:
        """Return whether `value` fits; a schema that can't be checked is taken to fit."""
        whole = {**schema, **{key: self._root[key] for key in ("$defs", "definitions") if key in self._root}}
        try:
            faults = Draft202012Validator(whole).iter_errors(value)  # pyright: ignore[reportUnknownMemberType]
            return next(faults, None) is None
        except (SchemaError, RecursionError, KeyError, TypeError, re.error):
            return True

    def _is_recursive(self, schema: Any, slot: Slot) -> bool:
        return slot.depth >= _DEEPEST or _reference(schema) in slot.trail

    def _fill_type(self, schema: Schema, slot: Slot) -> Any:
        kind = schema.get("type") or _guess_type(schema)
        if isinstance(kind, list):
            kinds = [str(each) for each in cast("list[Any]", kind)]
            kind = next((each for each in kinds if each != "null"), "null")
        match kind:
            case "object":
                return self._fill_object(schema, slot)
            case "array":
                return self._fill_array(schema, slot)
            case "integer" | "number":
                number = self._chooser.choose_number(slot, schema)
                return fit_number(number, schema, is_whole=kind == "integer")
            case "boolean":
                return self._chooser.choose_flag(slot)
            case "null":
                return None
            case _:
                return self._chooser.choose_text(slot, schema)

    def _fill_object(self, schema: Schema, slot: Slot) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        value: dict[str, Any] = {}
        properties: Schema = schema.get("properties", {})
        for name, part in properties.items():
            if name in required or not self._is_recursive(part, slot):
                inner = replace(slot, name=name, description="", depth=slot.depth + 1)
                value[name] = self.fill(part, inner)
        extra = schema.get("additionalProperties")
        for name in required - properties.keys():
            value[name] = self.fill(extra, replace(slot, name=name, depth=slot.depth + 1))
        for i in range(len(value), int(schema.get("minProperties", 0))):
            value[f"item_{i + 1}"] = self.fill(extra, replace(slot, index=i, depth=slot.depth + 1))
        return value

    def _fill_array(self, schema: Schema, slot: Slot) -> list[Any]:
        prefix: list[Any] = list(schema.get("prefixItems", ()))
        items: Any = schema.get("items", {})
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        wanted = least
        if isinstance(items, Mapping) and not (prefix and "items" not in schema):
            part = cast("Schema", items)
            if not self._is_recursive(part, slot):
                wanted = max(least, self._chooser.count_items(slot, self._resolve(part, slot)[0]))
        count = max(len(prefix), wanted) if most is None else min(max(len(prefix), wanted), int(most))
        values: list[Any] = []
        for i in range(count):
            value = self.fill(
                prefix[i] if i < len(prefix) else items, replace(slot, index=i, depth=slot.depth + 1)
            )
            if not schema.get("uniqueItems") or value not in values:
                values.append(value)
        return values


def _reference(schema: Any) -> str:
    return str(cast("Schema", schema).get("$ref", "")) if isinstance(schema, Mapping) else ""


def _merge(one: Schema, other: Schema) -> dict[str, Any]:
    """Return both schemas in one; what only one of them can say is taken from `other`."""
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged


def _guess_type(schema: Schema) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def fit_number(number: float | None, schema: Schema, *, is_whole: bool) -> float:
    """Return the number nearest to `number` that the schema allows; its default, else its minimum, for None."""
    low, high = _bounds(schema, is_whole=is_whole)
    step = float(schema.get("multipleOf", 1 if is_whole else 0)) or 0.0
    value = number if number is not None and math.isfinite(number) else float(schema.get("default") or 0)
    value = min(max(value, low), high)
    if step:
        steps = math.floor(value / step)
        steps += steps * step < low
        value = steps * step
    return int(value) if is_whole or (value.is_integer() and abs(value) < 1e15) else value


def _bounds(schema: Schema, *, is_whole: bool) -> tuple[float, float]:
    low = float(schema.get("minimum", -math.inf))
    high = float(schema.get("maximum", math.inf))
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, int | float):
        low = max(low, math.floor(above) + 1 if is_whole else math.nextafter(above, math.inf))
    if isinstance(below, int | float):
        high = min(high, math.ceil(below) - 1 if is_whole else math.nextafter(below, -math.inf))
    return low, high
