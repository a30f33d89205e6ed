"""What the tests of providers share: requests, and the official types to check bodies with."""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter

from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import BlobRef, Message, user_message
from perdure.contracts.spec import OutputSpec, ToolSpec
from perdure.errors import ModelCallError
from perdure.providers.base import ModelReply, ModelRequest, Provider

KEY = "sk-proj-Zq81mVkXw0PsecretT7"
BLOB = BlobRef(digest="sha256:" + "0" * 64, size_bytes=3)
WEATHER = ToolSpec(
    name="weather",
    description="Says the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CITY = OutputSpec(
    name="City",
    parameters={
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    },
)
PARAMS: dict[str, Any] = {"openai": CompletionCreateParams, "anthropic": MessageCreateParams}


def read_blob(ref: BlobRef) -> bytes:
    return b"abc"


def ignore(text: str) -> None:
    """Take no notice of the text that streams by."""


def request_of(provider: Provider, *messages: Message, **options: Any) -> ModelRequest:
    """Return a request that holds `messages`; settings among the options go where they belong."""
    fields: dict[str, Any] = {"model": "model-1", "instructions": "Be brief."}
    fields |= {name: options.pop(name) for name in list(options) if name in ModelRequest.__dataclass_fields__}
    options.setdefault("stall_timeout", timedelta(seconds=5))
    fragments = [provider.encode(message, read_blob) for message in messages or (user_message("Hello"),)]
    return ModelRequest(fragments=fragments, settings=ModelSettings(**options), **fields)


async def ask(provider: Provider, *messages: Message, **options: Any) -> ModelReply:
    return await provider.call(request_of(provider, *messages, **options), ignore)


async def fail(provider: Provider, **options: Any) -> ModelCallError:
    """Return the error that a call fails with; its text must never hold the key."""
    with pytest.raises(ModelCallError) as caught:
        await ask(provider, **options)
    error = caught.value
    assert KEY not in str(error)
    assert KEY not in repr(error)
    assert error.__cause__ is None  # a cause would be recorded with its text
    assert error.attributes["kind"] == error.kind
    return error


def body_of(provider: Any, *messages: Message, **options: Any) -> dict[str, Any]:
    """Return the body of a request, after checking it against the vendor's own types."""
    body: dict[str, Any] = json.loads(b"".join(provider.body(request_of(provider, *messages, **options))))
    check_body(provider.protocol, body)
    return body


def check_body(protocol: str, body: dict[str, Any]) -> None:
    if protocol == "anthropic":
        # Gone from the package with the models that took them; the API still knows both for older models.
        body = {name: value for name, value in body.items() if name not in ("temperature", "top_p")}
    _exhaust(_params(protocol).validate_python(body, extra="forbid"))


def only(values: Sequence[Any]) -> Any:
    assert len(values) == 1, values
    return values[0]


@cache
def _params(protocol: str) -> TypeAdapter[Any]:
    return TypeAdapter(PARAMS[protocol])


def _exhaust(value: Any) -> None:
    """Walk through all of it: pydantic checks an `Iterable` only when it is iterated."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            _exhaust(item)
