"""Activity side; owns which JSON schemas OpenAI's strict mode takes. No I/O."""

from typing import Any

from perdure.providers._wire import Json, as_dict, as_list

_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$defs", "$ref"}
    | {"title", "description", "pattern", "format", "minItems", "maxItems"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


def is_strict(schema: Json) -> bool:
    """Return whether strict mode takes `schema`; a wrong yes would fail every call, a wrong no costs little."""
    return schema.get("type") == "object" and _is_strict(schema)


def _is_strict(schema: Any) -> bool:
    node = as_dict(schema)
    if not node or not node.keys() <= _KEYWORDS or node.get("format", "uuid") not in _FORMATS:
        return False
    properties = as_dict(node.get("properties"))
    if node.get("type") == "object" or "properties" in node:
        if node.get("additionalProperties") is not False:
            return False
        if set(as_list(node.get("required"))) != set(properties):
            return False
    inner = [*properties.values(), *as_dict(node.get("$defs")).values(), *as_list(node.get("anyOf"))]
    if "items" in node:
        inner.append(node["items"])
    return all(map(_is_strict, inner))
