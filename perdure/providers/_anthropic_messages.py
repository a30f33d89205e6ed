"""Activity side; owns how messages are written in Anthropic's Messages format. No I/O but blobs.

A fragment holds content blocks joined by commas, without the message around them: neighbours of one role
become one message.
"""

from base64 import b64encode
from collections.abc import Iterable

from perdure.contracts.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from perdure.providers._wire import Json, as_dict, dumps, parse_arguments, safe_name, tool_fragment
from perdure.providers.base import BlobReader, Fragment

PROTOCOL = "anthropic"
THINKING_STARTS = (b'{"type":"thinking"', b'{"type":"redacted_thinking"')

_LONGEST_ID = 64
_LONGEST_NAME = 128
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PLACEHOLDER = {"type": "text", "text": "(empty message)"}


def encode(message: Message, read_blob: BlobReader) -> Fragment:
    """Return `message` as content blocks, joined by commas."""
    if message.role == "assistant":
        blocks = [block for part in message.parts if (block := _assistant_block(part))]
        return Fragment("assistant", b",".join(map(dumps, blocks)))
    results = [_result(part, read_blob) for part in message.parts if isinstance(part, ToolResultPart)]
    content = _content(message.parts, read_blob)
    if results:
        return tool_fragment(results, content)
    return Fragment("user", b",".join(map(dumps, content or [_PLACEHOLDER])))


def _assistant_block(part: Part) -> Json | None:
    if isinstance(part, TextPart):
        return _text(part.text)
    if isinstance(part, ToolCallPart):
        return {
            "type": "tool_use",
            "id": safe_name(part.id, longest=_LONGEST_ID),
            "name": safe_name(part.name, longest=_LONGEST_NAME),
            "input": parse_arguments(part.arguments) or {},
        }
    return _reasoning(part) if isinstance(part, ReasoningPart) else None


def _reasoning(part: ReasoningPart) -> Json | None:
    """Return a block of the vendor's own verbatim; another vendor's reasoning means nothing here."""
    block = as_dict((part.vendor or {}).get(PROTOCOL))
    if not block.get("type"):
        return None
    if block["type"] == "thinking":
        return {"type": "thinking", "thinking": part.text, **block}
    return {"type": block["type"], **block}


def _text(text: str) -> Json | None:
    # Blank text blocks are refused.
    return {"type": "text", "text": text} if text.strip() else None


def _result(part: ToolResultPart, read_blob: BlobReader) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": safe_name(part.call_id, longest=_LONGEST_ID)}
    if content := _content(part.content, read_blob):
        block["content"] = content
    if part.outcome != "ok":
        block["is_error"] = True
        block.setdefault("content", f"({part.outcome})")
    return block


def _content(parts: Iterable[Part], read_blob: BlobReader) -> list[Json]:
    blocks: list[Json | None] = []
    for part in parts:
        if isinstance(part, TextPart):
            blocks.append(_text(part.text))
        elif isinstance(part, ImagePart):
            blocks.append(_image(part, read_blob))
        elif isinstance(part, FilePart):
            blocks.append(_file(part, read_blob))
    return [block for block in blocks if block]


def _image(part: ImagePart, read_blob: BlobReader) -> Json | None:
    if part.blob is None:
        return {"type": "image", "source": _url_image(part.url or "")}
    media_type = part.media_type or "image/png"
    if media_type not in _IMAGES:
        return _text(f"(an image of type {media_type}, which can't be shown here)")
    data = b64encode(read_blob(part.blob)).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _url_image(url: str) -> Json:
    head, comma, data = url.partition(",")
    media_type, _, encoding = head.removeprefix("data:").partition(";")
    if comma and head.startswith("data:") and encoding == "base64" and media_type in _IMAGES:
        return {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "url", "url": url}


def _file(part: FilePart, read_blob: BlobReader) -> Json | None:
    title = {"title": part.name[:200]} if part.name else {}
    is_pdf = part.media_type in ("", "application/pdf")
    if part.blob is None:
        if is_pdf:
            return {"type": "document", "source": {"type": "url", "url": part.url}, **title}
        return _text(f"File {part.name}: {part.url}" if part.name else f"File: {part.url}")
    if is_pdf:
        data = b64encode(read_blob(part.blob)).decode()
        source = {"type": "base64", "media_type": "application/pdf", "data": data}
    elif part.media_type.startswith("text/") or part.media_type in ("application/json", "application/xml"):
        text = read_blob(part.blob).decode("utf-8", "replace")
        if not text.strip():
            return _text(f"(the file {part.name!r} is empty)")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        return _text(f"(a file of type {part.media_type}, {part.name!r}, which can't be shown here)")
    return {"type": "document", "source": source, **title}
