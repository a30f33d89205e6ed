"""Activity side; owns how messages are written in OpenAI's Chat Completions format. No I/O but blobs."""

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
from perdure.providers._wire import Json, as_dict, as_text, data_url, dumps, parse_arguments, safe_name
from perdure.providers._wire import tool_fragment as _tool_fragment
from perdure.providers.base import BlobReader, Fragment

PROTOCOL = "openai"
REASONING_FIELD = "reasoning_field"
"""Vendor data of a reasoning part: the field to send its text back in."""
CALL_EXTRAS = "call_extras"
"""Vendor data of a message: what came with its tool calls and must go back with them, by call id."""

_LONGEST_ID = 40
_LONGEST_NAME = 64
_EMPTY_RESULTS = {"ok": "(no output)", "error": "(failed)", "unknown": "(outcome unknown)", "denied": "(denied)"}


def encode(message: Message, read_blob: BlobReader) -> Fragment:
    """Return `message` as Chat Completions messages, joined by commas."""
    if message.role == "assistant":
        return Fragment("assistant", dumps(_assistant(message)))
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    content = [part for part in message.parts if isinstance(part, TextPart | ImagePart | FilePart)]
    if not results:
        return Fragment("user", dumps(_user(content, read_blob)))
    after = [_user(list(media), read_blob) for result in results if (media := _media(result))]
    if content:
        after.append(_user(content, read_blob))
    return _tool_fragment([_result(result) for result in results], after)


def _assistant(message: Message) -> Json:
    fields: Json = {"role": "assistant"}
    extras = as_dict(as_dict((message.vendor or {}).get(PROTOCOL)).get(CALL_EXTRAS))
    calls = [_call(part, extras) for part in message.tool_calls]
    # A null content is refused where there are no calls, and an empty one by some servers where there are.
    fields["content"] = message.text or (None if calls else "")
    if calls:
        fields["tool_calls"] = calls
    for part in message.parts:
        if isinstance(part, ReasoningPart) and part.vendor:
            name = as_text(as_dict(part.vendor.get(PROTOCOL)).get(REASONING_FIELD))
            if name and name not in ("role", "content", "tool_calls"):
                fields[name] = as_text(fields.get(name)) + part.text
    return fields


def _call(part: ToolCallPart, extras: Json) -> Json:
    # Many servers parse the arguments of earlier calls and refuse the whole request over a broken one.
    arguments = part.arguments if parse_arguments(part.arguments) is not None else "{}"
    function = {"name": safe_name(part.name, longest=_LONGEST_NAME), "arguments": arguments}
    call = {"id": safe_name(part.id, longest=_LONGEST_ID), "type": "function", "function": function}
    return {**as_dict(extras.get(part.id)), **call}


def _result(part: ToolResultPart) -> Json:
    text = "".join(item.text for item in part.content if isinstance(item, TextPart))
    if media := _media(part):
        kinds = " and ".join(sorted({item.kind for item in media}))
        note = f"(The {kinds} content of this result follows in a message of its own.)"
        text = f"{text}\n{note}" if text else note
    call_id = safe_name(part.call_id, longest=_LONGEST_ID)
    return {"role": "tool", "tool_call_id": call_id, "content": text or _EMPTY_RESULTS[part.outcome]}


def _media(part: ToolResultPart) -> tuple[ImagePart | FilePart, ...]:
    return tuple(item for item in part.content if not isinstance(item, TextPart))


def _user(
    parts: list[Part] | list[TextPart | ImagePart | FilePart] | list[ImagePart | FilePart], read_blob: BlobReader
) -> Json:
    if not parts:
        return {"role": "user", "content": ""}
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return {"role": "user", "content": parts[0].text}
    return {"role": "user", "content": [_content(part, read_blob) for part in parts]}


def _content(part: Part, read_blob: BlobReader) -> Json:
    if isinstance(part, ImagePart):
        url = part.url or (data_url(part.media_type or "image/png", read_blob(part.blob)) if part.blob else "")
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(part, FilePart):
        return _file(part, read_blob)
    return {"type": "text", "text": part.text if isinstance(part, TextPart) else ""}


def _file(part: FilePart, read_blob: BlobReader) -> Json:
    if part.blob is None:
        return {"type": "text", "text": f"File {part.name}: {part.url}" if part.name else f"File: {part.url}"}
    media_type = part.media_type or "application/pdf"
    name = part.name or ("file.pdf" if media_type == "application/pdf" else "file")
    return {"type": "file", "file": {"filename": name, "file_data": data_url(media_type, read_blob(part.blob))}}
