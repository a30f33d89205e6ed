"""Hypothesis: values that fit a JSON schema, as far as the tests' schemas go."""

from typing import Any

from hypothesis import strategies as st

_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
_JSON = st.none() | st.booleans() | st.integers(-1000, 1000) | _TEXT


def from_schema(schema: Any, root: dict[str, Any] | None = None, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return a strategy of values that fit `schema`; what isn't required is left out below a depth of 3."""
    root = root or dict(schema)
    if schema is True or schema == {}:
        return _JSON
    if "$ref" in schema:
        return from_schema(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, depth + 1)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of([from_schema(each, root, depth) for each in schema[several]])
    kind = schema.get("type", "object" if "properties" in schema else None)
    kinds = kind if isinstance(kind, list) else [kind]
    return st.one_of([_of_kind(each, schema, root, depth) for each in kinds])


def _of_kind(kind: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if kind == "string":
        if "pattern" in schema:
            return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z")
        texts = st.text(
            st.characters(exclude_categories=["Cs", "Cc"]),
            min_size=schema.get("minLength", 0),
            max_size=schema.get("maxLength", 20),
        )
        return texts
    if kind == "array":
        most = 0 if depth > 3 else min(3, schema.get("maxItems", 3))
        least = min(schema.get("minItems", 0), 3)
        return st.lists(
            from_schema(schema.get("items", True), root, depth + 1), min_size=least, max_size=max(most, least)
        )
    if kind == "object":
        return _objects(schema, root, depth)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        "integer": st.integers(-(10**6) if low is None else low, 10**6 if high is None else high),
        "number": st.floats(-1e6 if low is None else low, 1e6 if high is None else high, allow_subnormal=False),
        "boolean": st.booleans(),
        "null": st.none(),
        None: _JSON,
    }
    return simple[kind]


def _objects(schema: dict[str, Any], root: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    required = set(schema.get("required", ()))
    properties = schema.get("properties", {})
    chosen = {name: from_schema(each, root, depth + 1) for name, each in properties.items() if name in required}
    free = {
        name: st.deferred(lambda each=each: from_schema(each, root, depth + 1))
        for name, each in properties.items()
        if name not in required and depth <= 3
    }
    return st.fixed_dictionaries(chosen, optional=free)
