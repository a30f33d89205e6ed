"""The operations of an OpenAPI document as tools. Both sides, where an app is declared."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlsplit

from perdure.agents._names import check_name, is_name
from perdure.contracts.spec import JsonSchema
from perdure.errors import InvalidNameError, InvalidToolError
from perdure.tools._openapi_document import Document, Node
from perdure.tools._openapi_schema import Schemas
from perdure.tools._operation import Body, Parameter, Place
from perdure.tools.credentials import Credential

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_PLACES: dict[str, Place] = {"path": "path", "query": "query", "header": "header", "cookie": "cookie"}
_STYLES = {"path": "simple", "header": "simple", "query": "form", "cookie": "form"}
_NOT_OURS = frozenset({"accept", "content-type", "authorization"})
"""Header parameters that OpenAPI has tools ignore."""
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NOT_AN_ARGUMENT = re.compile(r"[^A-Za-z0-9_.-]")
_MAX_NAME = 64
_MAX_DESCRIPTION = 1000
"""Vendors take 1,024 characters."""
_VARIABLE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, kw_only=True)
class Described:
    """One operation of a document."""

    method: str
    path: str
    node: Node
    """The operation, resolved, with the parameters of its path."""
    servers: Sequence[Any]

    @property
    def id(self) -> str:
        """Its operationId; empty when it has none."""
        return str(self.node.get("operationId") or "")

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return tuple(str(tag) for tag in self.node.get("tags") or ())

    @property
    def place(self) -> str:
        """How messages call it."""
        return f"{self.method} {self.path}"

    @property
    def description(self) -> str:
        """What the model is told."""
        texts = [str(self.node.get(key) or "").strip() for key in ("summary", "description")]
        if texts[1].startswith(texts[0]):
            texts[0] = ""
        text = "\n\n".join(text for text in texts if text) or self.place
        text = f"Deprecated. {text}" if self.node.get("deprecated") is True else text
        return text if len(text) <= _MAX_DESCRIPTION else f"{text[: _MAX_DESCRIPTION - 1]}…"


def operations(document: Document) -> Iterator[Described]:
    """Yield the operations of a document, in its order."""
    paths = cast("Node", document.root.get("paths") or {})
    for path, item in paths.items():
        if path.startswith("x-"):
            continue
        found = document.resolved(item)
        shared = [document.resolved(each) for each in found.get("parameters") or ()]
        for method in _METHODS:
            if method not in found:
                continue
            node = document.resolved(found[method])
            own = [document.resolved(each) for each in node.get("parameters") or ()]
            merged = {(each.get("in"), each.get("name")): each for each in (*shared, *own)}
            servers = node.get("servers") or found.get("servers") or document.root.get("servers") or ()
            node = {**node, "parameters": list(merged.values())}
            yield Described(method=method.upper(), path=path, node=node, servers=servers)


def unique_names(found: Sequence[Described], prefix: str) -> dict[str, str]:
    """Return a tool's name for each operation, by its place: one that vendors allow, and that no other has.

    It depends on nothing but the operation and those that it would share it with, so that names stay as they are.
    """
    names = {each.place: _name(each, prefix) for each in found}
    taken: dict[str, int] = {}
    for name in names.values():
        taken[name.lower()] = taken.get(name.lower(), 0) + 1
    return {
        place: name if taken[name.lower()] == 1 and _is_free(name) else _marked(name, place)
        for place, name in names.items()
    }


def _name(operation: Described, prefix: str) -> str:
    wanted = operation.id or f"{operation.method.lower()}_{operation.path.strip('/')}"
    name = prefix + (_NOT_A_NAME.sub("_", wanted).strip("_") or operation.method.lower())
    name = name if name[0].isascii() and name[0].isalpha() else f"call_{name}"
    return name if is_name(name) else _marked(name, operation.place)


def _is_free(name: str) -> bool:
    try:
        check_name("Tool", name)
    except InvalidNameError:
        return False
    return True


def _marked(name: str, place: str) -> str:
    mark = sha256(place.encode()).hexdigest()[:8]
    name = f"api_{name}" if name.lower().startswith("perdure") else name
    return f"{name[: _MAX_NAME - 9]}_{mark}"


def base_url_of(operation: Described, base_url: str | None) -> str:
    """Return where an operation's path begins: the given URL, else its first server.

    Raises:
        InvalidToolError: It is no absolute URL. Not retryable.
    """
    if base_url is not None:
        return check_base_url(base_url)
    if not operation.servers:
        raise InvalidToolError(
            f"openapi_tools: the document names no server for {operation.place}: give base_url."
        )
    server = cast("Node", operation.servers[0])
    variables = cast("Node", server.get("variables") or {})

    def fill(match: re.Match[str]) -> str:
        return str(cast("Node", variables.get(match[1]) or {}).get("default", match[0]))

    return check_base_url(_VARIABLE.sub(fill, str(server.get("url", ""))))


def check_base_url(url: str) -> str:
    """Return `url`, without a slash at its end, if it is one that requests can go to.

    Raises:
        InvalidToolError: It isn't. Not retryable.
    """
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good or "{" in url:
        raise InvalidToolError(f"The base URL {url!r} is not absolute: give base_url='https://…'.")
    if parts.username or parts.password:
        raise InvalidToolError("The base URL holds a user or a password: give auth=basic_auth(…) instead.")
    if parts.query or parts.fragment:
        raise InvalidToolError("The base URL has a query or a fragment: leave it out.")
    return url.rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a call of an operation takes, and where that goes."""

    schema: JsonSchema
    parameters: tuple[Parameter, ...]
    body: Body | None


def shape_of(document: Document, operation: Described) -> Shape:
    """Return the schema of an operation's arguments, and where each goes."""
    schemas = Schemas(document)
    properties: Node = {}
    required: list[str] = []
    parameters: list[Parameter] = []
    request = operation.node.get("requestBody")
    taken = {"body"} if request is not None else set[str]()
    for node in _sendable(operation.node["parameters"]):
        parameter = _parameter(node, taken)
        taken.add(parameter.argument.lower())
        parameters.append(parameter)
        properties[parameter.argument] = _parameter_schema(schemas, node)
        if node.get("required") is True or parameter.place == "path":
            required.append(parameter.argument)
    body = None
    if request is not None:
        resolved = document.resolved(request)
        body, properties["body"] = _body(document, schemas, resolved)
        if resolved.get("required") is True:
            required.append("body")
    schema: JsonSchema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    if schemas.definitions:
        schema["$defs"] = schemas.definitions
    return Shape(schema=schema, parameters=tuple(parameters), body=body)


def _sendable(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        place, name = node.get("in"), str(node.get("name", ""))
        if place not in _PLACES or not name:
            raise InvalidToolError(f"openapi_tools: a parameter {name!r} in {place!r} can't be sent.")
        if place != "header" or name.lower() not in _NOT_OURS:
            yield node


def _parameter(node: Node, taken: set[str]) -> Parameter:
    name, place = str(node["name"]), _PLACES[node["in"]]
    style = str(node.get("style") or _STYLES[place])
    return Parameter(
        argument=_argument(name, place, taken),
        name=name,
        place=place,
        style=style,
        explode=bool(node.get("explode", style == "form")),
        allow_reserved=node.get("allowReserved") is True,
        is_json="content" in node,
    )


def _argument(name: str, place: str, taken: set[str]) -> str:
    """Return what the model calls a parameter: its name, such that vendors allow it, and unlike the others."""
    plain = _NOT_AN_ARGUMENT.sub("_", name).strip("_")[:_MAX_NAME] or place
    candidates = (plain, f"{plain[:50]}_{place}", *(f"{plain[:50]}_{place}_{number}" for number in range(2, 100)))
    return next(each for each in candidates if each.lower() not in taken)


def _parameter_schema(schemas: Schemas, node: Node) -> Any:
    content = cast("Node", node.get("content") or {})
    nothing: Node = {}
    media = cast("Node", next(iter(content.values()), nothing))
    schema = schemas.convert(media.get("schema", {}) if content else node.get("schema", {}))
    description = str(node.get("description") or "").strip()
    if not description or not isinstance(schema, dict):
        return schema
    return {**cast("Node", schema), "description": description[:_MAX_DESCRIPTION]}


def _body(document: Document, schemas: Schemas, request: Node) -> tuple[Body, Any]:
    content = cast("Node", request.get("content") or {})
    media_type = min(content, key=_preference, default="application/json")
    media = document.resolved(content.get(media_type) or {})
    kind = media_type.split(";")[0].strip().lower()
    sent_as = "application/json" if "*" in kind else media_type
    given = media.get("schema", {})
    if _preference(media_type) == _OTHER:
        is_text = kind.startswith("text/") or any(word in kind for word in ("xml", "yaml", "csv"))
        hint = "The text to send." if is_text else "The bytes to send, as base64."
        encoded: Node = {} if is_text else {"contentEncoding": "base64"}
        schema: Any = {"type": "string", "description": hint, **encoded}
        return Body(media_type=sent_as, is_base64=not is_text), schema
    if _preference(media_type) <= _JSON:
        return Body(media_type=sent_as), _described(schemas.convert(given), request)
    fields = _binary_fields(document, given) if "multipart" in kind else frozenset[str]()
    body = Body(media_type=sent_as, encodings=_encodings(media), binary_fields=fields)
    return body, _described(_with_files(schemas, given, fields), request)


_JSON, _OTHER = 2, 9


def _preference(media_type: str) -> int:
    kind = media_type.split(";")[0].strip().lower()
    order = {"application/json": 0, "*/*": 2, "application/*": 2}
    forms = {"application/x-www-form-urlencoded": 3, "multipart/form-data": 4}
    return order.get(kind, 1 if kind.endswith("+json") else forms.get(kind, _OTHER))


def _described(schema: Any, request: Node) -> Any:
    description = str(request.get("description") or "").strip()
    if not description or not isinstance(schema, dict) or "description" in schema:
        return cast("Any", schema)
    return {**cast("Node", schema), "description": description[:_MAX_DESCRIPTION]}


def _encodings(media: Node) -> tuple[tuple[str, str, bool], ...]:
    found = cast("Mapping[str, Node]", media.get("encoding") or {})
    return tuple(
        (name, style := str(each.get("style") or "form"), bool(each.get("explode", style == "form")))
        for name, each in found.items()
        if {"style", "explode", "allowReserved"} & set(each)
    )


def _binary_fields(document: Document, schema: Any) -> frozenset[str]:
    """Return the fields of a form that are files."""
    properties = cast("Node", document.resolved(schema).get("properties") or {})
    return frozenset(name for name, each in properties.items() if _is_file(document, each))


def _is_file(document: Document, schema: Any) -> bool:
    found = document.resolved(schema)
    if found.get("type") == "array":
        return _is_file(document, found.get("items", {}))
    is_bytes = "contentMediaType" in found and "contentEncoding" not in found
    return found.get("format") == "binary" or (is_bytes and found.get("type", "string") == "string")


def _with_files(schemas: Schemas, schema: Any, files: frozenset[str]) -> Any:
    """Return the schema of a form, in which a file is text that stands for its bytes."""
    converted = schemas.convert(schema)
    if not files or not isinstance(converted, dict):
        return converted
    found = cast("Node", converted)
    if "$ref" in found:
        found = cast("Node", schemas.definitions[str(found["$ref"]).rsplit("/", 1)[-1]])
    file: Node = {"type": "string", "contentEncoding": "base64", "description": "A file's bytes, as base64."}
    properties = {
        name: ({"type": "array", "items": file} if each.get("type") == "array" else file)
        if name in files
        else each
        for name, each in cast("dict[str, Node]", found["properties"]).items()
    }
    return {**found, "properties": properties}


def placed(document: Document, operation: Described, auth: Credential) -> Credential:
    """Return the credential with its place: as its author says, else as the document says for the operation."""
    if auth.is_placed:
        return auth
    requirements = operation.node.get("security", document.root.get("security")) or ()
    known = cast("Node", cast("Node", document.root.get("components") or {}).get("securitySchemes") or {})
    for requirement in cast("Sequence[Node]", requirements):
        for name in requirement:
            scheme = document.resolved(known.get(name) or {})
            if scheme.get("type") == "apiKey" and scheme.get("in") in ("header", "query", "cookie"):
                return Credential(variable=auth.variable, **{str(scheme["in"]): str(scheme["name"])})
    return auth
