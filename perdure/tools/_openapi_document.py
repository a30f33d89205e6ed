"""An OpenAPI document: read, and its references followed. Both sides, where an app is declared."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from perdure.errors import InvalidToolError

_MAX_HOPS = 20
_BOOL = re.compile(r"^(?:true|false)$")

Node = dict[str, Any]


def read_document(spec: "str | Path | Mapping[str, Any]") -> Node:
    """Return an OpenAPI document of version 3, from a file in YAML or JSON, or as it is.

    Raises:
        InvalidToolError: It can't be read, or is none. Not retryable.
    """
    document = dict(spec) if isinstance(spec, Mapping) else _load(spec)
    version = str(document.get("openapi", ""))
    if not version.startswith("3."):
        found = f"swagger {document['swagger']}" if "swagger" in document else version or "no version"
        raise InvalidToolError(f"openapi_tools: the document is of {found}: convert it to OpenAPI 3.")
    return document


def _load(spec: str | Path) -> Node:
    path = Path(spec)
    try:
        text = path.read_text("utf-8")
        loaded = json.loads(text) if path.suffix == ".json" else _load_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidToolError(f"openapi_tools: {str(spec)!r} can't be read: {error}.") from None
    if not isinstance(loaded, dict):
        raise InvalidToolError(f"openapi_tools: {str(spec)!r} holds no OpenAPI document.")
    return cast("Node", loaded)


def _load_yaml(text: str) -> Any:
    import yaml  # workflow code may import who imports this

    # YAML as JSON has it: dates stay text, as do `on` and `no` of YAML 1.1. The loader in C is ten times as quick.
    fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":bool"))]
        for first, known in fast.yaml_implicit_resolvers.items()
    }
    loader: Any = type("Loader", (fast,), {"yaml_implicit_resolvers": resolvers})
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tf"))
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


class Document:
    """The document, with its references followed."""

    def __init__(self, root: Node) -> None:
        """Work with a document that was read."""
        self.root = root
        self.version = str(root.get("openapi", ""))

    def resolved(self, node: Any) -> Node:
        """Return what `node` refers to, or itself; fields beside the reference go over those of its target."""
        beside: Node = {}
        for _ in range(_MAX_HOPS):
            if not isinstance(node, dict):
                raise InvalidToolError(f"openapi_tools: {str(node)[:80]!r} should be an object.")
            found = cast("Node", node)
            if "$ref" not in found:
                return {**found, **beside} if beside else found
            beside = {**{key: value for key, value in found.items() if key != "$ref"}, **beside}
            node = self.at(found["$ref"])
        raise InvalidToolError("openapi_tools: references lead round in a circle.")

    def at(self, reference: Any) -> Any:
        """Return what is at a reference within the document."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise InvalidToolError(
                f"openapi_tools: the reference {reference!r} leads out of the document: bundle it into one file."
            )
        node: Any = self.root
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = cast("Node", node)[name]
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(cast("list[Any]", node)):
                node = cast("list[Any]", node)[int(name)]
            else:
                raise InvalidToolError(f"openapi_tools: nothing is at the reference {reference!r}.")
        return node
