"""A conversation as the offline model sees it: question, calls, evidence. Activity side; pure, no I/O."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from perdure.contracts.messages import ContentPart, Message, TextPart, ToolCallPart, ToolResultPart
from perdure.providers._offline_passages import Document, Passage, Ranked, document_passages, rank
from perdure.providers._offline_results import (
    Outcome,
    parse_json,
    plain_document,
    read_outcome,
    without_read_hits,
)
from perdure.providers._offline_text import REQUEST_WORDS, STOP_WORDS, key_terms, query_words, sentences

_SHORT_REQUEST = 600
_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|long|often|large|big|old|fast|far)|when|which year)\b", re.IGNORECASE
)
_ASKS_LIST = re.compile(r"\b(?:what|which|list|show)\b.*\b(?:files?|documents?|docs|pages?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class View:
    """A conversation, read for its last question."""

    question: str
    material: str
    """Text that came with the question, to be quoted from."""
    instructions: str = ""
    outcomes: tuple[Outcome, ...] = ()
    asked: frozenset[str] = frozenset()
    """Every call of the conversation, by `call_key`."""
    asked_now: tuple[ToolCallPart, ...] = ()
    """The calls since the last question."""
    replies: int = 0
    """Messages of the model so far."""
    tool_turns: int = 0
    """Turns with tool calls since the last question."""

    @cached_property
    def terms(self) -> dict[str, float]:
        """The stems of the question's subject, each with its weight."""
        return dict.fromkeys(key_terms(self.question), 1.0)

    @cached_property
    def asks_for_list(self) -> bool:
        """Whether the question is which files there are, and nothing else."""
        has_subject = any(word.lower() not in REQUEST_WORDS | STOP_WORDS for word in self.subject)
        return not has_subject and bool(_ASKS_LIST.search(self.question))

    @cached_property
    def subject(self) -> list[str]:
        """The words of the question's subject, as written."""
        return query_words(self.question)

    @cached_property
    def evidence(self) -> tuple[Document | Passage, ...]:
        """What the tools returned; without any result, what the request itself brought along."""
        found = tuple(each for outcome in self.outcomes if not outcome.is_error for each in read_outcome(outcome))
        if self.outcomes:
            return without_read_hits(found)
        given = (("request", self.material), ("instructions", self.instructions))
        return tuple(plain_document(source, text) for source, text in given if text)

    @cached_property
    def ranked(self) -> list[Ranked]:
        """The passages of the evidence that share words with the question, best first."""
        if not self.terms:
            return []
        phrases = [word.lower() for word in self.subject if not word.isalnum()]
        prefer = bool(_ASKS_NUMBER.search(self.question))
        found = _passages(self.evidence, self.terms)
        return rank(found, self.terms, phrases=phrases, prefer_numbers=prefer)

    @cached_property
    def failures(self) -> tuple[Outcome, ...]:
        """The calls that gave an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_error)


def call_key(name: str, arguments: dict[str, Any]) -> str:
    """Return what identical calls have in common."""
    return f"{name} {json.dumps(arguments, sort_keys=True)}"


def read_view(instructions: str, messages: Sequence[Message]) -> View:
    """Read a conversation; the question is the last message that a person wrote."""
    asks = [i for i, each in enumerate(messages) if each.role == "user" and each.author != "perdure"]
    last = asks[-1] if asks else 0
    question, material = _split_request(messages[last].text if asks else "")
    if asks and len(key_terms(question)) < 2 and len(asks) > 1:
        question = f"{messages[asks[-2]].text}\n{question}"
    calls = [call for message in messages for call in message.tool_calls]
    now = [message.tool_calls for message in messages[last:] if message.tool_calls]
    return View(
        question=question,
        material=material,
        instructions=instructions,
        outcomes=tuple(_outcomes(messages, {call.id: call for call in calls})),
        asked=frozenset(call_key(call.name, _arguments(call)) for call in calls),
        asked_now=tuple(call for turn in now for call in turn),
        replies=sum(message.role == "assistant" for message in messages),
        tool_turns=len(now),
    )


def _split_request(text: str) -> tuple[str, str]:
    if len(text) <= _SHORT_REQUEST:
        return text.strip(), ""
    pieces = [piece.strip() for line in text.splitlines() for _, piece in sentences(line)]
    asks = [piece for piece in pieces if piece.endswith("?")] or pieces[:1]
    question = " ".join(asks)[: 2 * _SHORT_REQUEST]
    for ask in asks:
        text = text.replace(ask, "", 1)
    return question, text.strip()


def _outcomes(messages: Iterable[Message], calls: dict[str, ToolCallPart]) -> Iterator[Outcome]:
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                call = calls.get(part.call_id)
                arguments = {} if call is None else _arguments(call)
                yield Outcome(part.name, arguments, _text(part.content), part.outcome != "ok")


def _text(content: Iterable[ContentPart]) -> str:
    return "\n".join(part.text for part in content if isinstance(part, TextPart))


def _arguments(call: ToolCallPart) -> dict[str, Any]:
    parsed = parse_json(call.arguments)
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


def _passages(evidence: Iterable[Document | Passage], terms: Collection[str]) -> Iterator[Passage]:
    for each in evidence:
        if isinstance(each, Document):
            yield from document_passages(each, terms)
        else:
            yield each


def leading_passages(view: View, *, most: int) -> list[Passage]:
    """Return the first passages of the evidence, for when none shares a word with the question."""
    return [passage for passage, _ in zip(_passages(view.evidence, ()), range(most), strict=False)]
