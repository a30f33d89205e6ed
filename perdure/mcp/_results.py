"""What a server answered, as the content of a tool's result. Activity side; pure but for the blobs it stores."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import mcp_types as types

from perdure.contracts.messages import BlobRef, ContentPart, FilePart, ImagePart, TextPart

PutBlob = Callable[[bytes], BlobRef]

_MAX_BLOB_BYTES = 5_000_000
"""Of all pictures and files of a result; each goes to the model in full."""
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What every vendor takes."""
_FILES = ("application/pdf",)


class Reader:
    """Turns the blocks of one result into content.

    Args:
        put_blob: Keeps the bytes of pictures and files.
        redact: Takes the secrets out of a text.
    """

    def __init__(self, put_blob: PutBlob, redact: Callable[[str], str]) -> None:
        """Read nothing yet."""
        self._put_blob = put_blob
        self._redact = redact
        self._left = _MAX_BLOB_BYTES

    def result(self, result: types.CallToolResult) -> tuple[ContentPart, ...]:
        """Return the content of a tool's result; its structured content where it has no other."""
        parts = tuple(self._blocks(result.content))
        if not parts and result.structured_content is not None:
            parts = (self._text(json.dumps(result.structured_content, ensure_ascii=False)),)
        return parts or (TextPart(text="(no content)"),)

    def resource(self, contents: Sequence[Any]) -> tuple[ContentPart, ...]:
        """Return what a resource holds."""
        return tuple(self._contents(each) for each in contents) or (TextPart(text="(no content)"),)

    def prompt(self, result: types.GetPromptResult) -> tuple[ContentPart, ...]:
        """Return the messages of a prompt, each after whose it is."""
        parts: list[ContentPart] = []
        for message in result.messages:
            parts += [TextPart(text=f"[{message.role}] "), *self._blocks([message.content])]
        return tuple(parts) or (TextPart(text="(no messages)"),)

    def _blocks(self, blocks: Iterable[Any]) -> Iterator[ContentPart]:
        for block in blocks:
            match block:
                case types.TextContent():
                    yield self._text(block.text)
                case types.ImageContent() | types.AudioContent():
                    yield self._bytes(block.data, block.mime_type, block.type)
                case types.EmbeddedResource():
                    yield self._contents(block.resource)
                case types.ResourceLink():
                    told = [block.name, block.uri, block.mime_type or "", block.description or ""]
                    yield self._text(f"[resource: {' · '.join(str(each) for each in told if each)}]")
                case _:
                    yield TextPart(text=f"[content of the kind {type(block).__name__}, which can't be shown]")

    def _contents(self, contents: Any) -> ContentPart:
        if isinstance(contents, types.BlobResourceContents):
            return self._bytes(contents.blob, contents.mime_type or "", str(contents.uri))
        return self._text(f"[{contents.uri}]\n{contents.text}")

    def _text(self, text: str) -> TextPart:
        return TextPart(text=self._redact(text))

    def _bytes(self, data: str, media_type: str, what: str) -> ContentPart:
        """Keep bytes that a vendor takes; of others say what they are."""
        kind = media_type.partition(";")[0].strip().lower()
        size = len(data) * 3 // 4
        if kind not in (*_IMAGES, *_FILES) or size > self._left:
            why = "is too large" if kind in (*_IMAGES, *_FILES) else "can't be shown"
            return TextPart(
                text=f"[{self._redact(what[:200])}: {size} bytes of {kind[:100] or 'unknown type'}, which {why}]"
            )
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError:
            return TextPart(text=f"[{what[:200]}: its bytes are broken]")
        self._left -= size
        blob = self._put_blob(content)
        if kind in _IMAGES:
            return ImagePart(media_type=kind, blob=blob)
        return FilePart(media_type=kind, blob=blob)
