"""`offline:reader`: a stand-in for a language model that needs no key and no network. Activity side; no I/O.

It is a set of rules and not a language model, and its answers say so. It calls the tools that it is offered, over
several turns, and quotes the sentences of their results that share most words with the question. The same
conversation gives the same reply, byte for byte; `temperature`, `seed`, `stop` and the like change nothing.
"""

import asyncio
import json
import math
from dataclasses import dataclass

from perdure.contracts.messages import Message, Part, StopReason, TextPart, ToolCallPart
from perdure.contracts.spec import ToolSpec
from perdure.contracts.usage import Usage
from perdure.errors import ModelCallError
from perdure.providers._offline_answer import answer_pieces
from perdure.providers._offline_output import fill_output
from perdure.providers._offline_plan import MOST_PARALLEL, PlannedCall, plan_calls
from perdure.providers._offline_view import View, read_view
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink

MODEL = "reader"
"""The one model there is."""

_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class _Draft:
    """A reply before it is sent: its text in pieces, and its calls."""

    pieces: tuple[str, ...]
    calls: tuple[ToolCallPart, ...] = ()
    stop: StopReason = "end"


class OfflineProvider:
    """Answers without a language model, by rules: for demos, examples and tests.

    `settings.extra = {"delay_seconds": 0.5}` makes each call take that long,
    so that there is time to kill a worker.
    """

    name = "offline"
    protocol = "offline"

    def check(self) -> None:
        """Do nothing: no key and no address are needed."""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return the message as perdure writes it; blobs are left where they are."""
        return Fragment(message.role, message.to_bytes())

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Return tool calls while there is something to look up, then an answer of quotations.

        Raises:
            ModelCallError: The model isn't `reader`, or `delay_seconds` is no number. Not retryable.
        """
        if request.model != MODEL:
            raise ModelCallError(
                f"There is no model 'offline:{request.model}': use 'offline:{MODEL}'.",
                kind="fatal",
                status_code=404,
            )
        delay = _delay_seconds(request)
        messages = [Message.model_validate_json(fragment.body) for fragment in request.fragments]
        draft = _cut(_draft(request, read_view(request.instructions, messages)), _most_chars(request))
        await _send(draft, on_text, delay)
        return _reply(request, draft)


def _delay_seconds(request: ModelRequest) -> float:
    delay = (request.settings.extra or {}).get("delay_seconds", 0)
    if isinstance(delay, int | float) and not isinstance(delay, bool) and 0 <= delay < math.inf:
        return float(delay)
    raise ModelCallError(
        f"delay_seconds is {delay!r}: give a number of seconds, 0 or more.", kind="fatal", status_code=400
    )


def _draft(request: ModelRequest, view: View) -> _Draft:
    tools: tuple[ToolSpec, ...] = request.tools if request.may_call_tools else ()
    most = 1 if request.settings.parallel_tool_calls is False else MOST_PARALLEL
    if calls := plan_calls(view, tools, most=most):
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        parts = tuple(_call_part(call, view.replies + 1, i) for i, call in enumerate(calls, start=1))
        return _Draft((f"Next: {names}.",), parts, "tool_calls")
    if request.output is not None:
        return _Draft((fill_output(view, request.output),))
    return _Draft(tuple(answer_pieces(view, has_tools=bool(tools))))


def _call_part(call: PlannedCall, turn: int, i: int) -> ToolCallPart:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return ToolCallPart(id=f"call_{turn}_{i}", name=call.name, arguments=arguments)


def _most_chars(request: ModelRequest) -> int | None:
    tokens = request.max_output_tokens or request.settings.max_output_tokens
    return None if tokens is None else tokens * _CHARS_PER_TOKEN


def _cut(draft: _Draft, most: int | None) -> _Draft:
    """Return the draft as far as `max_output_tokens` allows; calls are left out before they are cut."""
    if most is None or _length(draft) <= most:
        return draft
    if draft.calls:
        kept = draft.calls
        while kept and _length(_Draft((), kept)) > most:
            kept = kept[:-1]
        return _Draft((), kept, "tool_calls" if kept else "length")
    return _Draft(("".join(draft.pieces)[:most],), stop="length")


def _length(draft: _Draft) -> int:
    return sum(map(len, draft.pieces)) + sum(len(call.name) + len(call.arguments) for call in draft.calls)


async def _send(draft: _Draft, on_text: TextSink, delay: float) -> None:
    """Hand out the text piece by piece, with the delay spread around the pieces."""
    pause = delay / (len(draft.pieces) + 1)
    for piece in draft.pieces:
        if pause:
            await asyncio.sleep(pause)
        on_text(piece)
    if pause:
        await asyncio.sleep(pause)


def _reply(request: ModelRequest, draft: _Draft) -> ModelReply:
    text = "".join(draft.pieces)
    parts: tuple[Part, ...] = ((TextPart(text=text),) if text else ()) + draft.calls
    message = Message(role="assistant", parts=parts, model=f"offline:{MODEL}", stop=draft.stop)
    prompt = len(request.instructions) + sum(len(fragment.body) for fragment in request.fragments)
    prompt += sum(len(tool.to_bytes()) for tool in request.tools)
    return ModelReply(
        message=message, usage=Usage(input_tokens=_tokens(prompt), output_tokens=_tokens(_length(draft)))
    )


def _tokens(chars: int) -> int:
    return math.ceil(chars / _CHARS_PER_TOKEN)
