"""How values of parameters are written into a URL, a header or a form, by OpenAPI's styles. Both sides; pure.

https://spec.openapis.org/oas/v3.1.0#style-values
"""

import json
from typing import Any, cast
from urllib.parse import quote

_UNRESERVED = "-._~"
_RESERVED = ":/?#[]@!$&'()*+,;="
_DELIMITERS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}


def scalar(value: Any) -> str:
    """Return the text of a value that has no parts; of one that has, its JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def encoded(value: Any, *, allow_reserved: bool = False) -> str:
    """Return a value's text, percent-encoded."""
    text = scalar(value).encode(errors="replace")
    return quote(text, safe=_UNRESERVED + (_RESERVED if allow_reserved else ""))


def path_value(name: str, value: Any, style: str, *, explode: bool) -> str:
    """Return what stands for a parameter in a path: `simple`, `label` or `matrix`."""
    if style == "label":
        return "." + _joined(value, "." if explode else ",", explode=explode)
    if style == "matrix":
        return _matrix(quote(name, safe=_UNRESERVED), value, explode=explode)
    return _joined(value, ",", explode=explode)


def header_value(value: Any, *, explode: bool) -> str:
    """Return the value of a header, which isn't encoded."""
    if isinstance(value, list):
        return ",".join(scalar(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return ",".join(f"{key}={scalar(each)}" if explode else f"{key},{scalar(each)}" for key, each in pairs)
    return scalar(value)


def query_pairs(
    name: str, value: Any, style: str, *, explode: bool, allow_reserved: bool = False
) -> list[tuple[str, str]]:
    """Return the encoded pairs of a query or form: `form`, `spaceDelimited`, `pipeDelimited`, `deepObject`."""

    def write(each: Any) -> str:
        return encoded(each, allow_reserved=allow_reserved)

    if style == "deepObject" and isinstance(value, dict | list):
        return _deep(name, value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        if explode:
            return [(encoded(key), write(each)) for key, each in items]
        parts = [part for key, each in items for part in (encoded(key), write(each))]
        return [(encoded(name), _DELIMITERS.get(style, ",").join(parts))]
    if isinstance(value, list):
        values = [write(each) for each in cast("list[Any]", value)]
        if explode:
            return [(encoded(name), each) for each in values]
        return [(encoded(name), _DELIMITERS.get(style, ",").join(values))]
    return [(encoded(name), write(value))]


def _deep(name: str, value: Any) -> list[tuple[str, str]]:
    """Write `a[b][c]=1`, and lists as `a[0]=1`, as services read them that use more than one level."""
    if isinstance(value, dict):
        items = [(f"{name}[{key}]", each) for key, each in cast("dict[str, Any]", value).items()]
    elif isinstance(value, list):
        items = [(f"{name}[{number}]", each) for number, each in enumerate(cast("list[Any]", value))]
    else:
        return [(quote(name, safe=_UNRESERVED + "[]"), encoded(value))]
    return [pair for key, each in items for pair in _deep(key, each)]


def _joined(value: Any, separator: str, *, explode: bool) -> str:
    if isinstance(value, list):
        return separator.join(encoded(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        inner = "=" if explode else ","
        return (separator if explode else ",").join(f"{encoded(key)}{inner}{encoded(each)}" for key, each in pairs)
    return encoded(value)


def _matrix(name: str, value: Any, *, explode: bool) -> str:
    if explode and isinstance(value, list):
        return "".join(f";{name}={encoded(each)}" for each in cast("list[Any]", value))
    if explode and isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return "".join(f";{encoded(key)}={encoded(each)}" for key, each in pairs)
    return f";{name}={_joined(value, ',', explode=False)}"
