"""Whether a JSON value fits a JSON schema. Both sides; pure, and light enough for workflow code.

The validator of an update can't be an activity, and workflow code may not import `jsonschema`, which the worker
uses elsewhere. This knows the keywords of draft 2020-12 that validate, but for `contains`, `unevaluated…`,
dependencies and references to other documents, which it takes as fulfilled; a test compares the two.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, cast

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

_MAX_DEPTH = 100
_SHOWN = 60


def fitting_faults(schema: Any, value: Any) -> list[str]:
    """Return what in `value` doesn't fit, each with its path; nothing where all does."""
    return list(_Check(schema).faults(schema, value, "", 0))


class _Check:
    def __init__(self, root: Any) -> None:
        self._root = root

    def faults(self, schema: Any, value: Any, path: str, depth: int) -> Iterator[str]:
        if schema is False:
            yield _at(path, "nothing is allowed here")
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return
        rules = cast("dict[str, Any]", schema)
        if "$ref" in rules:
            yield from self.faults(self._resolve(str(rules["$ref"])), value, path, depth + 1)
        for problem in _plain_faults(rules, value):
            yield _at(path, problem)
        yield from self._combined(rules, value, path, depth + 1)
        if isinstance(value, dict):
            yield from self._in_object(rules, cast("dict[str, Any]", value), path, depth + 1)
        if isinstance(value, list):
            yield from self._in_array(rules, cast("list[Any]", value), path, depth + 1)

    def _fits(self, schema: Any, value: Any, depth: int) -> bool:
        return next(self.faults(schema, value, "", depth), None) is None

    def _combined(self, rules: Mapping[str, Any], value: Any, path: str, depth: int) -> Iterator[str]:
        for each in rules.get("allOf", ()):
            yield from self.faults(each, value, path, depth)
        if "anyOf" in rules and not any(self._fits(each, value, depth) for each in rules["anyOf"]):
            yield _at(path, self._no_branch(rules["anyOf"], value, depth))
        if "oneOf" in rules:
            number = sum(self._fits(each, value, depth) for each in rules["oneOf"])
            if number == 0:
                yield _at(path, self._no_branch(rules["oneOf"], value, depth))
            elif number > 1:
                yield _at(path, f"{_show(value)} fits {number} of the forms, and should fit one")
        if "not" in rules and self._fits(rules["not"], value, depth):
            yield _at(path, f"{_show(value)} is not allowed")
        if "if" in rules:
            branch = "then" if self._fits(rules["if"], value, depth) else "else"
            yield from self.faults(rules.get(branch, True), value, path, depth)

    def _no_branch(self, branches: Sequence[Any], value: Any, depth: int) -> str:
        """Say why no branch fits: by the reason of the only one that is of the value's type."""
        reasons = [next(self.faults(each, value, "", depth), "") for each in branches]
        telling = [reason for reason in reasons if "should be of type" not in reason]
        return telling[0] if len(telling) == 1 else f"{_show(value)} fits none of the forms that are allowed"

    def _in_object(
        self, rules: Mapping[str, Any], value: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[str]:
        properties: Mapping[str, Any] = rules.get("properties", {})
        patterns: Mapping[str, Any] = rules.get("patternProperties", {})
        for name in rules.get("required", ()):
            if name not in value:
                yield _at(path, f"{name!r} is missing")
        for name, inner in value.items():
            below = f"{path}.{name}" if path else name
            schemas = [properties[name]] if name in properties else []
            schemas += [each for pattern, each in patterns.items() if _matches(pattern, name)]
            for each in schemas:
                yield from self.faults(each, inner, below, depth)
            if not schemas and "additionalProperties" in rules:
                rest = rules["additionalProperties"]
                if rest is False:
                    yield _at(path, f"there is no {name!r}")
                else:
                    yield from self.faults(rest, inner, below, depth)
            if "propertyNames" in rules:
                yield from self.faults(rules["propertyNames"], name, below, depth)

    def _in_array(self, rules: Mapping[str, Any], value: Sequence[Any], path: str, depth: int) -> Iterator[str]:
        first: Sequence[Any] = rules.get("prefixItems", ())
        for index, inner in enumerate(value):
            schema = first[index] if index < len(first) else rules.get("items", True)
            yield from self.faults(schema, inner, f"{path}[{index}]", depth)

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return True
        found = self._root
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                return True
            found = cast("dict[str, Any]", found)[name]
        return found


def _plain_faults(rules: Mapping[str, Any], value: Any) -> Iterator[str]:
    """Yield what the value breaks of the keywords that look at nothing inside."""
    if "type" in rules:
        kinds = [rules["type"]] if isinstance(rules["type"], str) else list(rules["type"])
        if not any(_is_of(kind, value) for kind in kinds):
            yield f"{_show(value)} should be of type {' or '.join(kinds)}"
            return
    if "enum" in rules and not any(_is_same(each, value) for each in rules["enum"]):
        yield f"{_show(value)} should be one of {', '.join(_show(each) for each in rules['enum'])}"
    if "const" in rules and not _is_same(rules["const"], value):
        yield f"{_show(value)} should be {_show(rules['const'])}"
    if "pattern" in rules and isinstance(value, str) and not _matches(rules["pattern"], value):
        yield f"{_show(value)} should match {rules['pattern']}"
    for keyword, (kind, is_kept, problem) in _BOUNDS.items():
        if keyword in rules and _is_of(kind, value) and not is_kept(value, rules[keyword]):
            yield f"{_show(value)} {problem} {rules[keyword]}"
    if rules.get("uniqueItems") and isinstance(value, list):
        known = {_key(each) for each in cast("list[Any]", value)}
        if len(known) < len(cast("list[Any]", value)):
            yield f"{_show(value)} has an item twice"


_Bound = tuple[str, Callable[[Any, Any], bool], str]
_BOUNDS: Mapping[str, _Bound] = {
    "minimum": ("number", lambda value, bound: value >= bound, "should be at least"),
    "maximum": ("number", lambda value, bound: value <= bound, "should be at most"),
    "exclusiveMinimum": ("number", lambda value, bound: value > bound, "should be more than"),
    "exclusiveMaximum": ("number", lambda value, bound: value < bound, "should be less than"),
    "multipleOf": ("number", lambda value, bound: value % bound == 0, "should be a multiple of"),
    "minLength": ("string", lambda value, bound: len(value) >= bound, "should have characters, at least"),
    "maxLength": ("string", lambda value, bound: len(value) <= bound, "should have characters, at most"),
    "minItems": ("array", lambda value, bound: len(value) >= bound, "should have items, at least"),
    "maxItems": ("array", lambda value, bound: len(value) <= bound, "should have items, at most"),
    "minProperties": ("object", lambda value, bound: len(value) >= bound, "should have fields, at least"),
    "maxProperties": ("object", lambda value, bound: len(value) <= bound, "should have fields, at most"),
}


def _is_of(kind: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "integer":
            return is_number and float(value).is_integer() if abs(value if is_number else 0) < 1e300 else is_number
        case "number":
            return is_number
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case _:
            return False


def _is_same(one: Any, other: Any) -> bool:
    return _key(one) == _key(other)


def _key(value: Any) -> str:
    """Return what equal JSON values share: `1` and `1.0` are equal, `1` and `true` are not."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in cast("dict[str, Any]", value).items()}
    return [_plain(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


@lru_cache(maxsize=200)
def _pattern(pattern: str) -> TypeAdapter[str] | None:
    """Return what checks a pattern in linear time; None for one that this can't, which counts as matched."""
    try:
        return TypeAdapter(Annotated[str, Field(pattern=pattern)])
    except SchemaError:
        return None


def _matches(pattern: str, text: str) -> bool:
    adapter = _pattern(pattern)
    try:
        if adapter is not None:
            adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def _at(path: str, problem: str) -> str:
    return f"{path}: {problem}" if path else problem


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
