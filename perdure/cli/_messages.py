"""Messages of a conversation, as people read them: in full for a transcript, in short while a run is followed."""

import json
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.text import Text

from perdure.cli._context import say
from perdure.cli._format import call, clean, one_line, plural
from perdure.cli._render import console, print_labelled
from perdure.client import FullTranscript, TranscriptEntry
from perdure.contracts.messages import (
    ArtifactPart,
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from perdure.contracts.spec import FINAL_OUTPUT_TOOL
from perdure.contracts.usage import Usage

_OUTCOMES = {"error": "red", "unknown": "yellow", "denied": "yellow"}


def print_transcript(entries: Iterable[TranscriptEntry]) -> None:
    """Print all messages in full."""
    MessagePrinter(console(), is_full=True).print_all(entries)


def tell_of_more(found: FullTranscript | list[TranscriptEntry], workflow_id: str) -> None:
    """Say on stderr what is not in a transcript."""
    if isinstance(found, FullTranscript):
        if found.missing_run_id:
            say(
                f"The run {found.missing_run_id} before these is gone, as its time of retention is over: of its "
                "messages there is what the next run had copied."
            )
    elif found and found[-1].epoch:
        say(
            f"Older messages made room, {plural(found[-1].epoch, 'time')}: "
            f"`perdure transcript {workflow_id} --full` has them all."
        )


class MessagePrinter:
    """Prints messages in order, and counts the turns.

    Attributes:
        turns: The model's messages so far.
        open_calls: Tool calls that were asked for and aren't answered, by the vendor's id.
    """

    def __init__(self, out: Console, *, is_full: bool = False) -> None:
        """Print to `out`; tool results to one line each, unless `is_full`."""
        self.turns = 0
        self.open_calls: dict[str, ToolCallPart] = {}
        self._out = out
        self._is_full = is_full
        self._shorten: Callable[[str], str] = clean if is_full else one_line

    def print_all(self, entries: Iterable[TranscriptEntry]) -> None:
        """Print them."""
        for entry in entries:
            self.print(entry)

    def print(self, entry: TranscriptEntry) -> None:
        """Print one message."""
        message = entry.message
        match message.role:
            case "assistant":
                self.turns += 1
                self.open_calls = {part.id: part for part in message.tool_calls}
                self._line(Text(f"turn {self.turns}", style="bold cyan"), _assistant(message, self._is_full))
                if self._is_full and entry.usage is not None:
                    self._line("", Text(_cost(message.model, entry.usage), style="dim"))
            case "tool":
                for part in message.parts:
                    if isinstance(part, ToolResultPart):
                        self._result(part, is_saved=entry.is_saved)
            case _:
                label = "user" if not message.author else message.author
                self._line(Text(label, style="bold"), _content(message, self._shorten))
        if entry.problem:
            self._line("", Text(f"can't be used: {one_line(entry.problem, 300)}", style="yellow"))

    def _result(self, part: ToolResultPart, *, is_saved: bool) -> None:
        self.open_calls.pop(part.call_id, None)
        texts = [each.text if isinstance(each, TextPart) else _media(each) for each in part.content]
        body = Text(self._shorten("\n".join(texts)), style="" if self._is_full else "dim")
        if part.outcome != "ok":
            style = _OUTCOMES[part.outcome]
            body = Text(f"{part.outcome}: ", style=style).append(body.plain, style=style)
        if is_saved:
            body = Text("(saved) ", style="cyan").append(body)
        self._line(Text(f"  {part.name}", style="green"), body)

    def _line(self, label: str | Text, body: Text) -> None:
        print_labelled(self._out, label, body)


def _assistant(message: Message, is_full: bool) -> Text:
    lines: list[Text] = []
    for part in message.parts:
        match part:
            case TextPart(text=text) if text:
                lines.append(Text(clean(text)))
            case ReasoningPart(text=text) if text:
                lines.append(Text(clean(text) if is_full else one_line(text), style="italic dim"))
            case ToolCallPart(name=name, arguments=arguments):
                lines.append(_call(name, arguments, is_full))
            case _:
                pass
    if message.stop in ("length", "refusal", "interrupted"):
        lines.append(Text(f"(stopped: {message.stop})", style="yellow"))
    return Text("\n").join(lines)


def _call(name: str, arguments: str, is_full: bool) -> Text:
    if name != FINAL_OUTPUT_TOOL:
        return Text("→ ", style="dim").append(call(name, arguments, 10_000 if is_full else 160), style="not dim")
    try:
        return Text(clean(json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)))
    except ValueError:
        return Text(clean(arguments))


def _content(message: Message, shorten: Callable[[str], str]) -> Text:
    parts = [
        part.text if isinstance(part, TextPart) else _described(part)
        for part in message.parts
        if isinstance(part, TextPart | ImagePart | FilePart | ArtifactPart)
    ]
    return Text(shorten("\n".join(parts)))


def _described(part: ImagePart | FilePart | ArtifactPart) -> str:
    return part.reference if isinstance(part, ArtifactPart) else _media(part)


def _media(part: ImagePart | FilePart) -> str:
    where = part.url or (part.blob.digest[:19] if part.blob else "")
    return f"[{part.kind} {where}]"


def _cost(model: str, usage: Usage) -> str:
    cost = "" if usage.cost_usd is None else f" · ${usage.cost_usd:.4f}"
    return f"{model} · {usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{cost}".removeprefix(" · ")
