"""Turning what a tool returned into the content of a tool result. Activity side; pure."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from pydantic_core import to_json

from perdure.contracts.messages import ContentPart, FilePart, ImagePart, TextPart

_CONTENT = (TextPart, ImagePart, FilePart)


def to_content(value: Any, max_bytes: int) -> tuple[ContentPart, ...]:
    """Return text as it is, content parts as they are, and anything else as JSON; cut to `max_bytes`.

    Raises:
        PydanticSerializationError: The value has no JSON form.
    """
    if isinstance(value, _CONTENT):
        parts: tuple[ContentPart, ...] = (value,)
    elif _is_content(value):
        parts = tuple(cast("Iterable[ContentPart]", value))
    else:
        text = encodable(value) if isinstance(value, str) else to_json(value).decode()
        parts = (TextPart(text=text),)
    return _cut(parts, max_bytes)


def encodable(text: str) -> str:
    """Return `text` with a question mark for each lone surrogate, as in names of files that are not UTF-8."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _is_content(value: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    items = cast("Sequence[Any]", value)
    return bool(items) and all(isinstance(item, _CONTENT) for item in items)


def _cut(parts: tuple[ContentPart, ...], max_bytes: int) -> tuple[ContentPart, ...]:
    left = max_bytes
    kept: list[ContentPart] = []
    for part in parts:
        if isinstance(part, TextPart):
            part, left = _cut_text(part, left)
        kept.append(part)
    return tuple(kept)


def _cut_text(part: TextPart, left: int) -> tuple[TextPart, int]:
    data = part.text.encode(errors="replace")
    if len(data) <= left:
        return part, left - len(data)
    shown = data[:left].decode(errors="ignore")
    notice = f"\n[cut by perdure: {left} of {len(data)} bytes shown; ask for less, or for a part]"
    return TextPart(text=shown + notice), 0
