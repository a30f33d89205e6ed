"""A conversation at the terminal, or through pipes, with one run that stays open."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from perdure.cli._context import Project, say
from perdure.cli._errors import describe, run_outcome
from perdure.cli._format import clean
from perdure.cli._messages import MessagePrinter
from perdure.cli._people import say_new_waits
from perdure.cli._prompting import Asker, Lines, can_ask
from perdure.cli._render import console, print_items
from perdure.cli._running import surroundings
from perdure.cli._sessions import NewSession, OpenSession
from perdure.client import TranscriptEntry, WatchEvent
from perdure.contracts.names import CALL_MODEL
from perdure.errors import InboxFullError, InvalidInputError, PayloadTooLargeError, RunNotFoundError

if TYPE_CHECKING:
    from perdure.client import PerdureClient

QUIT = "/quit"
_SHOWN = 6
"""Messages of before that are shown when one comes back."""


async def read_message(lines: Lines) -> str | None:
    """Return the next line that isn't empty; None at the end, or at `/quit`."""
    with suppress(EOFError):
        while (line := await lines.next()).strip() != QUIT:
            if line.strip():
                return line
    return None


class Printer:
    """Prints what the agent says to stdout, and everything else to stderr."""

    def __init__(self, output: str) -> None:
        """Print as text, or as JSON lines."""
        self._is_json = output == "jsonl"
        self._rest = MessagePrinter(console(is_stderr=True))
        self._call = ""
        self._streamed = ""
        """What is on the terminal of the reply that this call writes."""

    def entry(self, entry: TranscriptEntry, *, is_old: bool = False) -> None:
        """Print a message."""
        if self._is_json:
            print_items([entry], "jsonl")
            return
        message = entry.message
        if message.role != "assistant":
            if message.role == "tool" or is_old or message.author:
                self._rest.print(entry)
            return
        text = clean(message.text)
        if message.tool_calls or not text:
            self._break_off()
            self._rest.print(entry)
        elif text.startswith(self._streamed):
            click.echo(text[len(self._streamed) :])
        else:  # that was another try, or a summary
            self._break_off()
            click.echo(text)
        if message.stop == "interrupted":
            say("(interrupted)")
        self._streamed = ""

    def progress(self, event: WatchEvent) -> None:
        """Print what is new of the reply that is being written, on a terminal."""
        if self._is_json or not sys.stdout.isatty():
            return
        for call in event.pending:
            if call.activity != CALL_MODEL or call.progress is None or not call.progress.text:
                continue
            if call.activity_id != self._call:
                self._break_off()
                self._call = call.activity_id
            text = clean(call.progress.text)
            start = len(self._streamed) - call.progress.offset
            if 0 <= start < len(text):
                click.echo(text[start:], nl=False)
                self._streamed += text[start:]

    def _break_off(self) -> None:
        if self._streamed:
            click.echo()
        self._streamed = ""

    def prompt(self, lines: Lines) -> None:
        """Say that it is the user's turn."""
        if lines.is_terminal:
            click.echo("> ", err=True, nl=False)


class Waits:
    """What people are to decide in the session: asked where one sits at the terminal, else told, once.

    Attributes:
        asking: At work while something is asked; what is typed is the answer then.
    """

    def __init__(self, client: "PerdureClient", lines: Lines, output: str) -> None:
        """Ask nothing yet."""
        out = console(is_stderr=True)
        self.asking: asyncio.Task[None] | None = None
        self._asker = Asker(client, out, lines) if output == "text" and can_ask(out) else None
        self._output = output
        self._told: set[tuple[str, str]] = set()

    def take(self, event: WatchEvent) -> None:
        """Take in what waits now."""
        if self._output == "jsonl":
            print_items([event], "jsonl")
        elif self._asker is None:
            say_new_waits(event.waits, self._told)
        else:
            self._asker.note(event.waits)
            if self._asker.has_more and self.asking is None:
                self.asking = asyncio.create_task(self._asker.ask_all())

    def settle(self) -> None:
        """Take in that all was asked, where it was; say what went wrong."""
        if self.asking is None or not self.asking.done():
            return
        error, self.asking = self.asking.exception(), None
        if error is not None:
            say(describe(error)[1])


class Chat:
    """One session, from this terminal.

    Args:
        client: Of perdure.
        workflow_id: The session.
        lines: What the user writes.
        printer: Prints.
        waits: What people are to decide.
        seen: Epoch and slot of the last message that is not printed again.
        asked: Messages that the session has, beside its input.
    """

    def __init__(
        self,
        client: "PerdureClient",
        workflow_id: str,
        *,
        lines: Lines,
        printer: Printer,
        waits: Waits,
        seen: tuple[int, int] = (0, -1),
        asked: int = 0,
    ) -> None:
        """Begin."""
        self.id = workflow_id
        self._client = client
        self._lines = lines
        self._printer = printer
        self._waits = waits
        self._seen = seen
        self._asked = asked
        self._is_idle = False
        self._is_over = False

    async def run(self) -> bool:
        """Talk until the user leaves, or the session is over; say whether it is over.

        Raises:
            RunFailed: The session ended without an answer.
        """
        events = self._client.watch(self.id)
        event = asyncio.create_task(_next(events))
        line: asyncio.Task[str | None] | None = None
        try:
            while not self._is_over:
                line = self._listen(line)
                tasks = [task for task in (event, line, self._waits.asking) if task is not None]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                self._waits.settle()
                if line is not None and line.done():
                    text, line = line.result(), None
                    if text is None:
                        return False
                    await self._send(text)
                if event.done():
                    self._take(event.result())
                    event = asyncio.create_task(_next(events))
        finally:
            for task in (event, line, self._waits.asking):
                if task is not None:
                    task.cancel()
        return True

    def _listen(self, line: "asyncio.Task[str | None] | None") -> "asyncio.Task[str | None] | None":
        """Read a message when the user may write one: not while they are asked something."""
        if self._waits.asking is not None:
            if line is not None and not line.done():
                line.cancel()  # nothing is lost by that: what was typed waits in the queue
                return None
            return line
        if line is None and (self._is_idle or self._lines.is_terminal):
            return asyncio.create_task(read_message(self._lines))
        return line

    async def _send(self, text: str) -> None:
        interrupt = self._lines.is_terminal and not self._is_idle and text.startswith("!")
        try:
            receipt = await self._client.send(self.id, text[1:] if interrupt else text, interrupt=interrupt)
        except (InboxFullError, PayloadTooLargeError, InvalidInputError) as error:
            say(error.message)
            return
        except RunNotFoundError:
            return  # it is over: the next event says how
        self._asked, self._is_idle = receipt.number, False

    def _take(self, event: WatchEvent | None) -> None:
        if event is None or event.kind == "closed":
            self._is_over = True
        elif event.entry is not None:
            if (event.entry.epoch, event.entry.slot) > self._seen:
                self._printer.entry(event.entry)
        elif event.kind == "pending":
            self._printer.progress(event)
        elif event.kind == "waits":
            self._waits.take(event)
        elif event.kind == "idle" and event.read is not None and event.read >= self._asked:
            self._is_idle = True
            self._printer.prompt(self._lines)


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent | None:
    return await anext(events, None)


async def finish(client: "PerdureClient", workflow_id: str, output: str) -> None:
    """Say how a session ended.

    Raises:
        RunFailed: It did not complete.
    """
    with run_outcome(output):
        result = await client.result(workflow_id)
    limit = f" at its limit {result.limit}" if result.limit else ""
    say(f"The session {workflow_id} is over{limit}.")


def way_back(workflow_id: str, needed: str) -> str:
    """Return how to come back to a session."""
    return f"The session {workflow_id} stays open: {needed}`perdure chat --attach {workflow_id}` comes back to it."


async def chat(project: Project, session: OpenSession | NewSession, output: str) -> None:
    """Talk in a session until the user leaves it, or it is over; bring up what is missing, as `run` does.

    Raises:
        RunFailed: It ended without an answer.
        InvalidInputError, RunNotFoundError: There is no such session. Not retryable.
    """
    lines, printer = Lines(), Printer(output)
    async with surroundings(project) as around:
        client, begun = around.client, ""
        waits = Waits(client, lines, output)
        try:
            if isinstance(session, OpenSession):
                talk = await _come_back(client, session, lines, printer, waits)
            else:
                talk = await _begin(client, session, lines, printer, waits)
            if talk is None:
                return
            begun = talk.id
            if await talk.run():
                await finish(client, begun, output)
            else:
                say(way_back(begun, around.needed))
        except asyncio.CancelledError:
            if begun:
                say("\n" + way_back(begun, around.needed))
            raise


async def _begin(
    client: "PerdureClient", session: NewSession, lines: Lines, printer: Printer, waits: Waits
) -> "Chat | None":
    text = session.text
    if text is None:
        printer.prompt(lines)
        text = await read_message(lines)
    if text is None:
        return None
    id = await session.begin(client, text)
    say(f"Started {id}.")
    return Chat(client, id, lines=lines, printer=printer, waits=waits)


async def _come_back(
    client: "PerdureClient", session: OpenSession, lines: Lines, printer: Printer, waits: Waits
) -> "Chat":
    status = await session.status(client)
    entries = await client.transcript(session.id)
    for entry in entries[-_SHOWN:]:
        printer.entry(entry, is_old=True)
    seen = (entries[-1].epoch, entries[-1].slot) if entries else (0, -1)
    return Chat(client, session.id, lines=lines, printer=printer, waits=waits, seen=seen, asked=status.received)
