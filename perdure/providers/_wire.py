"""Activity side; owns what the wire formats share: JSON, names, and the order of fragments. No I/O."""

import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from hashlib import sha256
from json import loads as _stdlib_loads
from typing import Any, cast

from pydantic_core import from_json, to_json

from perdure.providers.base import Fragment

Json = dict[str, Any]

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def dumps(value: object) -> bytes:
    """Return compact JSON; it holds no raw newline, which `ordered` relies on."""
    return to_json(value, inf_nan_mode="null")


def loads(text: str | bytes) -> Any:
    """Return the value of a vendor's JSON.

    The standard library's parser, because some servers cut a surrogate pair in two and escape the halves.

    Raises:
        ValueError: the text is no JSON, or nested too deeply.
    """
    try:
        return _stdlib_loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def as_dict(value: object) -> Json:
    """Return `value` if it is an object, else an empty one: vendors write null anywhere."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return `value` if it is an array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return `value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int:
    """Return `value` if it can be a number of tokens, else 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return 0
    return int(value)


def whole_text(pieces: Iterable[str]) -> str:
    """Join pieces of a stream; halves of a surrogate pair meet, and lone ones are replaced."""
    text = "".join(pieces)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def parse_arguments(arguments: str) -> Json | None:
    """Return a tool call's arguments, or None if the model wrote no JSON object."""
    try:
        value: object = from_json(arguments, allow_inf_nan=False)
    except ValueError:
        return None
    return cast("Json", value) if isinstance(value, dict) else None


def safe_name(name: str, *, longest: int) -> str:
    """Return `name` in the alphabet that every vendor takes; equal names stay equal, others stay apart."""
    safe = _UNSAFE.sub("_", name)
    if safe == name and 0 < len(name) <= longest:
        return name
    return f"{safe[: longest - 9]}_{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def data_url(media_type: str, data: bytes) -> str:
    """Return a `data:` URL that holds `data`."""
    return f"data:{media_type or 'application/octet-stream'};base64,{b64encode(data).decode()}"


def json_array(items: Sequence[bytes]) -> list[bytes]:
    """Return the pieces of a JSON array of values that are encoded already."""
    if not items:
        return [b"[]"]
    pieces = [b","] * (2 * len(items) + 1)
    pieces[0], pieces[1::2], pieces[-1] = b"[", items, b"]"
    return pieces


def json_object(fields: Iterable[tuple[str, bytes | list[bytes]]]) -> list[bytes]:
    """Return the pieces of a JSON object of members that are encoded already, or in pieces."""
    pieces: list[bytes] = []
    for name, value in fields:
        pieces += b"," if pieces else b"{", dumps(name), b":"
        pieces += (value,) if isinstance(value, bytes) else value
    pieces.append(b"}")
    return pieces


def tool_fragment(results: list[Json], after: list[Json]) -> Fragment:
    """Return a fragment of tool results, and of what must not stand between them."""
    lines = [b",".join(map(dumps, results))]
    if after:
        lines.append(b",".join(map(dumps, after)))
    return Fragment("tool", b"\n".join(lines))


def ordered(fragments: Iterable[Fragment]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield runs of bodies, `assistant` and `user` in turn, with each run's tool results in front.

    Vendors refuse a tool result that doesn't follow the call at once, yet a person may write in between,
    and a result's pictures must come after the last result of the turn.
    """
    results: list[bytes] = []
    rest: list[bytes] = []
    replies: list[bytes] = []
    # A loop over the whole conversation at each call: it is written for speed.
    for fragment in fragments:
        role, body = fragment.role, fragment.body
        if not body:
            continue
        if role == "assistant":
            if results or rest:
                yield "user", results + rest
                results, rest = [], []
            replies.append(body)
            continue
        if replies:
            yield "assistant", replies
            replies = []
        if role != "tool":
            rest.append(body)
        elif b"\n" in body:
            result, _, after = body.partition(b"\n")
            results.append(result)
            rest.append(after)
        else:
            results.append(body)
    if replies:
        yield "assistant", replies
    if results or rest:
        yield "user", results + rest


class EncodedCache:
    """Keeps the parts of requests that rarely change, encoded; the least recently used go first."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], bytes]) -> bytes:
        """Return the bytes kept under `key`, made by `encode` the first time."""
        kept = self._entries.get(key)
        if kept is None:
            kept = self._entries[key] = encode()
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        return kept
