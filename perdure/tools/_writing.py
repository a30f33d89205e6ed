"""Writing the request of a call: its URL, headers and body. Activity side; it sends nothing."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, cast

from perdure.errors import ToolRetry
from perdure.tools._operation import Body, Operation, Parameter
from perdure.tools._styles import encoded, header_value, path_value, query_pairs, scalar

_HEADER_TEXT = re.compile(r"[\x20-\x7e\t]*")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_DOTS = frozenset({".", ".."})


@dataclass
class Written:
    """A request that is being written."""

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content: bytes = b""

    def add_query(self, name: str, value: str) -> None:
        """Add a pair to the query."""
        self.url += f"{'&' if '?' in self.url else '?'}{encoded(name)}={encoded(value)}"

    def add_cookie(self, name: str, value: str) -> None:
        """Add a cookie."""
        known = self.headers.get("cookie")
        pair = f"{name}={value}"
        self.headers["cookie"] = f"{known}; {pair}" if known else pair


def write(operation: Operation, arguments: Mapping[str, Any]) -> Written:
    """Return the request of a call, without credentials.

    Raises:
        ToolRetry: An argument can't be written where it goes.
    """
    given = {
        parameter: arguments[parameter.argument]
        for parameter in operation.parameters
        if arguments.get(parameter.argument) is not None
    }
    written = Written(operation.base_url.rstrip("/") + _path(operation, given))
    written.headers.update(operation.headers)
    pairs: list[tuple[str, str]] = []
    for parameter, value in given.items():
        if parameter.place == "query":
            pairs += _query(parameter, value)
        elif parameter.place == "header":
            written.headers[parameter.name] = _header(parameter, value)
        elif parameter.place == "cookie":
            for name, text in _query(parameter, value):
                written.add_cookie(name, text)
    if pairs:
        joined = "&".join(f"{name}={value}" for name, value in pairs)
        written.url += ("&" if "?" in written.url else "?") + joined
    if operation.body is not None and operation.body.argument in arguments:
        content_type, written.content = _body(operation.body, arguments[operation.body.argument])
        written.headers["content-type"] = content_type
    return written


def _path(operation: Operation, given: Mapping[Parameter, Any]) -> str:
    values = {
        parameter.name: _path_text(parameter, value)
        for parameter, value in given.items()
        if parameter.place == "path"
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ToolRetry(f"The path needs {match[1]!r}: it can't be left out.")
        return values[match[1]]

    path = _PLACEHOLDER.sub(fill, operation.path)
    template = operation.path.partition("?")[0].split("/")
    for part, segment in zip(path.partition("?")[0].split("/"), template, strict=True):
        if part in _DOTS and segment not in _DOTS:
            raise ToolRetry(f"{part!r} can't be a part of the path.")
    return path if path.startswith("/") or not path else f"/{path}"


def _path_text(parameter: Parameter, value: Any) -> str:
    if parameter.is_json:
        return encoded(json.dumps(value, ensure_ascii=False))
    text = path_value(parameter.name, value, parameter.style or "simple", explode=parameter.explode)
    if not text:
        raise ToolRetry(f"{parameter.argument!r} is empty: it is a part of the path.")
    return text


def _query(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    if parameter.is_json:
        return [(encoded(parameter.name), encoded(json.dumps(value, ensure_ascii=False)))]
    return query_pairs(
        parameter.name,
        value,
        parameter.style or "form",
        explode=parameter.explode,
        allow_reserved=parameter.allow_reserved,
    )


def _header(parameter: Parameter, value: Any) -> str:
    text = json.dumps(value) if parameter.is_json else header_value(value, explode=parameter.explode)
    if not _HEADER_TEXT.fullmatch(text):
        raise ToolRetry(
            f"{parameter.argument!r} goes into a header: it can hold printable ASCII only, on one line."
        )
    return text


def _body(body: Body, value: Any) -> tuple[str, bytes]:
    kind = body.media_type.split(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return body.media_type, _form(body, value)
    if kind == "multipart/form-data":
        return _multipart(body, value)
    if kind == "application/json" or kind.endswith("+json"):
        return body.media_type, json.dumps(value, ensure_ascii=False).encode(errors="replace")
    if body.is_base64:
        return body.media_type, _unbase64(scalar(value))
    return body.media_type, scalar(value).encode(errors="replace")


def _form(body: Body, value: Any) -> bytes:
    styles = {name: (style, explode) for name, style, explode in body.encodings}
    pairs: list[tuple[str, str]] = []
    for name, each in _fields(value).items():
        if each is None:
            continue
        if name in styles:
            style, explode = styles[name]
            pairs += query_pairs(name, each, style, explode=explode)
        elif isinstance(each, dict):
            pairs.append((encoded(name), encoded(each)))
        else:
            pairs += query_pairs(name, each, "form", explode=True)
    return "&".join(f"{name}={text}" for name, text in pairs).encode()


def _multipart(body: Body, value: Any) -> tuple[str, bytes]:
    boundary = token_hex(16)
    pieces: list[bytes] = []
    for name, each in _fields(value).items():
        for item in cast("list[Any]", each) if isinstance(each, list) else [each]:
            if item is not None:
                pieces.append(_part(body, boundary, name, item))
    content = b"".join(pieces) + f"--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", content


def _part(body: Body, boundary: str, name: str, value: Any) -> bytes:
    safe = re.sub(r"[\r\n\"]", "_", name)
    is_file = name in body.binary_fields
    data = _unbase64(scalar(value)) if is_file else scalar(value).encode(errors="replace")
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{safe}"']
    if is_file:
        lines[-1] += f'; filename="{safe}"'
        lines.append("Content-Type: application/octet-stream")
    elif isinstance(value, dict):
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data + b"\r\n"


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ToolRetry("The body must be an object: each of its fields is one of the form.")
    return cast("dict[str, Any]", value)


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ToolRetry("What stands for a file must be base64.") from None
