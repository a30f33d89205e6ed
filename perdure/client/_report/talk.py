"""The conversations of runs, with tool calls folded. Client side; pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, cast

from perdure.client._report.markup import element, escaped, money, shortened, tone, took, word
from perdure.client._timeline.data import Step, Timeline
from perdure.client._timeline.read import ReadRun
from perdure.client._timeline.sums import calls_of
from perdure.client._transcript import TranscriptEntry, transcript
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

_LINE = 120


def conversation(read: ReadRun, number: int, *, is_open: bool) -> str:
    """Return the section of a run: its conversation, folded unless `is_open`."""
    timeline = read.timeline
    entries = [*transcript(read.records[-1])]
    turns = {step.slot: step for step in calls_of(timeline.steps) if step.kind == "turn"}
    who = timeline.agent or timeline.workflow
    facts = [word(timeline.status), took(timeline.end - timeline.started_at)]
    head = f"{escaped(timeline.workflow_id)} {element('span', escaped(' · '.join((who, *facts))), class_='note')}"
    body = "".join(_messages(entries, turns, timeline, number))
    if timeline.failure:
        body += element("p", escaped(timeline.failure), class_="failure")
    if not entries:
        body += element("p", "It has no conversation of its own.", class_="note")
    summary = element("summary", element("h3", head))
    return element("details", summary + body, id=f"run-{number}", class_="run", open="" if is_open else None)


def _messages(
    entries: list[TranscriptEntry], turns: Mapping[int | None, Step], timeline: Timeline, number: int
) -> Iterator[str]:
    """Yield the messages; a tool's result is in its call."""
    count = 0
    for position, entry in enumerate(entries):
        message = entry.message
        if message.role == "tool":
            continue
        turn = turns.get(entry.slot)
        count += message.role == "assistant"
        label = f"turn {turn.number if turn is not None else count}" if message.role == "assistant" else ""
        head = element("h4", escaped(label or message.author or "user"))
        head += element("span", escaped(_facts(entry, turn, timeline)), class_="note")
        body = "".join(_parts(message, _results(entries, position)))
        if entry.problem:
            body += element("p", f"can't be used: {escaped(entry.problem)}", class_="failure")
        classes = f"message {message.role}"
        yield element(
            "article", element("header", head) + body, id=f"run-{number}-{entry.slot}", class_=classes, tabindex=-1
        )


def _results(entries: Sequence[TranscriptEntry], asked: int) -> dict[str, tuple[TranscriptEntry, ToolResultPart]]:
    """Return the results of a message's calls, by the calls' ids, which are unique in that message only."""
    answers = takewhile(lambda entry: entry.message.role != "assistant", entries[asked + 1 :])
    parts = ((entry, part) for entry in answers for part in entry.message.parts)
    return {part.call_id: (entry, part) for entry, part in parts if isinstance(part, ToolResultPart)}


def _facts(entry: TranscriptEntry, turn: Step | None, timeline: Timeline) -> str:
    usage = entry.usage
    facts = [
        entry.message.model,
        f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out · {money(usage.cost_usd)}"
        if usage
        else "",
        took(turn.took(timeline.end)) if turn is not None else "",
        f"stopped: {entry.message.stop}" if entry.message.stop in ("length", "refusal", "interrupted") else "",
        "saved" if entry.is_saved else "",
    ]
    return " · ".join(filter(None, facts))


def _parts(message: Message, results: Mapping[str, tuple[TranscriptEntry, ToolResultPart]]) -> Iterator[str]:
    for part in message.parts:
        match part:
            case TextPart(text=text) if text:
                yield element("div", shortened(text), class_="text")
            case ReasoningPart(text=text) if text:
                summary = element("summary", "reasoning")
                yield element(
                    "details", summary + element("div", shortened(text), class_="text"), class_="reasoning"
                )
            case ToolCallPart():
                yield _call(part, results.get(part.id))
            case ImagePart() | FilePart() | ArtifactPart():
                yield element("p", escaped(_described(part)), class_="note")
            case _:
                pass


def _call(call: ToolCallPart, answer: tuple[TranscriptEntry, ToolResultPart] | None) -> str:
    arguments, line = _arguments(call)
    outcome = "open" if answer is None else answer[1].outcome
    badge = "" if outcome == "ok" else element("span", escaped(word(outcome)), class_=f"badge {tone(outcome)}")
    if answer is not None and answer[0].is_saved:
        badge += element("span", "saved", class_="badge good")
    shown = line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"
    summary = element("summary", f"<code>{escaped(f'{call.name}({shown})')}</code>{badge}")
    body = element("div", shortened(arguments), class_="text arguments")
    if answer is not None:
        content = "\n".join(_content(each) for each in answer[1].content)
        body += element("div", shortened(content), class_="text result")
    return element("details", summary + body, class_=f"tool {tone(outcome)}")


def _arguments(call: ToolCallPart) -> tuple[str, str]:
    """Return the arguments in full, and on a line."""
    try:
        values: Any = json.loads(call.arguments or "{}")
        line = json.dumps(values, ensure_ascii=False)
        if isinstance(values, dict):
            named = cast("dict[str, Any]", values)
            line = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in named.items())
        return json.dumps(values, indent=2, ensure_ascii=False), line
    except (ValueError, RecursionError):
        return call.arguments, " ".join(call.arguments.split())


def _content(part: TextPart | ImagePart | FilePart) -> str:
    return part.text if isinstance(part, TextPart) else _described(part)


def _described(part: ImagePart | FilePart | ArtifactPart) -> str:
    """Return a reference in words; nothing is loaded from anywhere."""
    if isinstance(part, ArtifactPart):
        return part.reference
    where = part.url or (part.blob.digest[:19] if part.blob else "")
    return f"[{part.kind} {where}]"
