"""Part `context`: a long run whose model reads no more than 32,000 tokens.

The model is a function of what it is shown: which page comes next, and a fact that was on the third page, it
knows from its prompt alone. A second model writes the summaries: it keeps facts, and how far the work is. The
worker runs in this process, so that every prompt can be looked at.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bench.chain import read_chain
from bench.inside import inside
from bench.report import Report, print_table, say
from bench.stack import Stack
from perdure import Agent, App, Compaction, Limits, tool
from perdure.client import PerdureClient
from perdure.contracts.messages import Message
from perdure.providers.base import ModelRequest
from perdure.testing import ScriptedModel, calls

_WINDOW = 32_000
_FACT = re.compile(r"the code word is [a-z]+-\d")
_PAGE = re.compile(r"page (\d+)")
_SIZE = 2000
_TIME = timedelta(minutes=30)
_MOST_BYTES = 8 * 1024 * 1024
"""Of history in one run: twice what Temporal suggests."""


@tool(idempotent=True)
async def page(number: int) -> str:
    """Return a page of a text.

    Args:
        number: Which.
    """
    fact = " the code word is heliotrope-7" if number == 2 else ""
    return f"page {number}{fact} " + "lorem " * (_SIZE // 6)


@dataclass
class Reader:
    """The two models, and what was seen of their prompts.

    Attributes:
        turns: How many pages there are.
        prompts: Tokens of each prompt of the agent, at four bytes a token.
        summaries: The same of each prompt of the summariser.
    """

    turns: int
    prompts: list[int] = field(default_factory=list[int])
    summaries: list[int] = field(default_factory=list[int])

    def read(self, request: ModelRequest, messages: list[Message]) -> Any:
        """Ask for the next page, or tell what was found."""
        self.prompts.append(_tokens(request))
        text = _text(messages)
        last = max((int(number) for number in _PAGE.findall(text)), default=-1)
        if last + 1 < self.turns:
            return calls(("page", {"number": last + 1}))
        return f"{last + 1} pages; {'; '.join(sorted(set(_FACT.findall(text))))}"

    def summarise(self, request: ModelRequest, messages: list[Message]) -> Any:
        """Keep the facts, and how far the work is."""
        self.summaries.append(_tokens(request))
        text = _text(messages)
        return f"{'; '.join(sorted(set(_FACT.findall(text))))}. Last: page {max(map(int, _PAGE.findall(text)))}"


def _tokens(request: ModelRequest) -> int:
    return sum(len(fragment.body) for fragment in request.fragments) // 4


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(message.model_dump_json() for message in messages)


def _app(reader: Reader) -> App:
    agent = Agent(
        "reader",
        model="reader:x",
        tools=[page],
        limits=Limits(max_turns=reader.turns + 10, max_repeats=1000),
        compaction=Compaction(by="summarise", model="scribe:x", context_window_tokens=_WINDOW),
    )
    models = [ScriptedModel(reader.read, name="reader"), ScriptedModel(reader.summarise, name="scribe")]
    return App(agents=[agent], providers=models)


async def measure_context(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    report = Report("context")
    reader = Reader(turns=100 if is_quick else 1000)
    say(f"context: {reader.turns} turns of {_SIZE:,} B, in a window of {_WINDOW:,} tokens")
    async with inside(_app(reader), stack.temporal, "context") as client:
        started = time.monotonic()
        run = await client.start_agent("reader", "Read all pages.", id="bench-context")
        result: Any = await client.result(run.workflow_id, timeout=_TIME)
        seconds = time.monotonic() - started
        await _judge(stack, client, report, reader, result, run.workflow_id, run.run_id, seconds)
    report.print_targets()
    return report


async def _judge(
    stack: Stack,
    client: PerdureClient,
    report: Report,
    reader: Reader,
    result: Any,
    workflow_id: str,
    run_id: str,
    seconds: float,
) -> None:
    chain = await read_chain(stack.temporal, workflow_id, run_id)
    full = await client.full_transcript(workflow_id)
    pages = [int(number) for number in re.findall(r'"text":"page (\d+)', _results(full.entries))]
    largest = max(run.size for run in chain.runs)
    rows = [
        ["turns", f"{result.counters.turns:,}"],
        ["summaries", f"{len(reader.summaries)}, the longest of {max(reader.summaries, default=0):,} tokens"],
        ["longest prompt", f"{max(reader.prompts):,} tokens"],
        ["history", f"{chain.size:,} B in {len(chain.runs)} runs, at most {largest:,} B each"],
        ["time", f"{1000 * seconds / reader.turns:.1f} ms a turn"],
    ]
    print_table(f"{reader.turns} turns with a context window of {_WINDOW:,} tokens", ("", ""), rows)
    report.figures["run"] = {
        "turns": result.counters.turns,
        "summaries": reader.summaries,
        "longest_prompt_tokens": max(reader.prompts),
        "history_bytes": [run.size for run in chain.runs],
        "seconds": seconds,
    }
    is_recalled = result.output == f"{reader.turns} pages; the code word is heliotrope-7"
    report.target(f"it completes, and the fact of page 2 is recalled: {result.output!r}", is_met=is_recalled)
    usable = _WINDOW * 3 // 4
    report.target(
        f"each prompt fits: the longest has {max(reader.prompts):,} of {usable:,} tokens",
        is_met=max(reader.prompts) <= usable and max(reader.summaries, default=0) <= usable,
    )
    report.target(f"room was made {len(reader.summaries)} times", is_met=len(reader.summaries) >= 2)
    report.target(f"the largest history is {largest:,} B (at most {_MOST_BYTES:,})", is_met=largest <= _MOST_BYTES)
    is_whole = pages == list(range(reader.turns))
    report.target("`transcript --full` has each of the pages, once and in order", is_met=is_whole)


def _results(entries: Sequence[Any]) -> str:
    return _text([entry.message for entry in entries if entry.message.role == "tool"])
