"""From the schemas of OpenAPI 3.0 and 3.1 to one JSON schema that stands alone. Both sides; pure.

What is referred to goes into `$defs`, so that schemas which hold themselves stay as they are.
"""

import re
from typing import Any, cast

from perdure.tools._openapi_document import Document, Node

_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords that hold schemas by name."""
_SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA = frozenset(
    {"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_DROPPED = frozenset({"xml", "externalDocs", "discriminator", "example", "examples", "readOnly", "writeOnly"})
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")


class Schemas:
    """Converts schemas for one tool, and collects what they refer to.

    Attributes:
        definitions: What goes into the tool's `$defs`.
    """

    def __init__(self, document: Document) -> None:
        """Begin without definitions."""
        self._document = document
        self._is_old = document.version.startswith("3.0")
        self._names: dict[str, str] = {}
        self.definitions: Node = {}

    def convert(self, schema: Any) -> Any:
        """Return a schema in JSON Schema 2020-12, for what a caller sends."""
        if not isinstance(schema, dict):  # true and false are schemas too
            return schema
        given = cast("Node", schema)
        if "$ref" in given:
            return self._referred(given)
        converted = {key: self._value(key, value) for key, value in given.items() if self._is_kept(key)}
        if not _is_pattern(converted.get("pattern", "")):
            del converted["pattern"]
        self._without_read_only(given, converted)
        return _modern(given, converted) if self._is_old else converted

    def _is_kept(self, key: str) -> bool:
        return key not in _DROPPED and not key.startswith("x-") and not (self._is_old and key == "nullable")

    def _value(self, key: str, value: Any) -> Any:
        if key in _SCHEMAS and isinstance(value, dict):
            return {name: self.convert(each) for name, each in cast("Node", value).items()}
        if key in _SCHEMA_LISTS and isinstance(value, list):
            return [self.convert(each) for each in cast("list[Any]", value)]
        return self.convert(value) if key in _SCHEMA else value

    def _referred(self, schema: Node) -> Node:
        name = self._define(schema["$ref"])
        beside = {} if self._is_old else {key: value for key, value in schema.items() if key != "$ref"}
        converted: Node = self.convert(beside) if beside else {}
        return {"$ref": f"#/$defs/{name}", **converted}

    def _define(self, reference: str) -> str:
        """Return the name of a definition; it has one before it is converted, since it may hold itself."""
        if reference not in self._names:
            base = _NOT_A_NAME.sub("_", reference.rsplit("/", 1)[-1]) or "root"
            name, number = base, 1
            while name in self._names.values():
                number += 1
                name = f"{base}_{number}"
            self._names[reference] = name
            self.definitions[name] = self.convert(self._document.at(reference))
        return self._names[reference]

    def _without_read_only(self, given: Node, converted: Node) -> None:
        """Leave out what only answers hold."""
        properties = given.get("properties")
        if not isinstance(properties, dict):
            return
        hidden = {name for name, each in cast("Node", properties).items() if self._is_read_only(each)}
        if hidden:
            kept = {name: each for name, each in converted["properties"].items() if name not in hidden}
            converted["properties"] = kept
            required = [name for name in converted.pop("required", []) if name not in hidden]
            if required:
                converted["required"] = required

    def _is_read_only(self, schema: Any) -> bool:
        return isinstance(schema, dict) and cast("Node", schema).get("readOnly") is True


def _is_pattern(text: Any) -> bool:
    """Say whether Python's regular expressions know what JavaScript's know."""
    try:
        re.compile(text)
    except (re.error, TypeError, RecursionError):
        return False
    return True


def _modern(given: Node, converted: Node) -> Node:
    """Put what OpenAPI 3.0 says in its own words into those of JSON Schema."""
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(converted.get(bound), bool):
            is_exclusive = converted.pop(bound)
            if is_exclusive and limit in converted:
                converted[bound] = converted.pop(limit)
    if given.get("nullable") is not True:
        return converted
    if "enum" in converted and None not in converted["enum"]:
        converted["enum"] = [*converted["enum"], None]
    kind = converted.get("type")
    if isinstance(kind, str):
        converted["type"] = [kind, "null"]
        return converted
    if any(key in converted for key in _SCHEMA_LISTS):  # the usual way to make a reference nullable
        described = {key: converted.pop(key) for key in ("description", "default") if key in converted}
        return {**described, "anyOf": [converted, {"type": "null"}]}
    return converted
