"""A conversation at the terminal, or through pipes, with one run that stays open."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from perdure.cli._context import Project, say
from perdure.cli._errors import run_outcome
from perdure.cli._format import clean
from perdure.cli._messages import MessagePrinter
from perdure.cli._render import console, print_items
from perdure.cli._running import surroundings
from perdure.cli._sessions import NewSession, OpenSession
from perdure.client import TranscriptEntry, WatchEvent
from perdure.errors import InboxFullError, InvalidInputError, PayloadTooLargeError, RunNotFoundError

if TYPE_CHECKING:
    from perdure.client import PerdureClient

QUIT = "/quit"
_SHOWN = 6
"""Messages of before that are shown when one comes back."""


class Lines:
    """Lines of stdin, read by a thread of their own: nothing can interrupt a thread that reads."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.is_terminal = sys.stdin.isatty()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    def open(self) -> None:
        """Start to read."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(self._queue.put_nowait, line.rstrip("\r\n"))
            loop.call_soon_threadsafe(self._queue.put_nowait, None)

        threading.Thread(target=read, name="perdure-stdin", daemon=True).start()

    async def next(self) -> str | None:
        """Return the next line that isn't empty; None at the end, or at `/quit`."""
        while (line := await self._queue.get()) is not None:
            if line.strip() == QUIT:
                return None
            if line.strip():
                return line
        return None


class Printer:
    """Prints what the agent says to stdout, and everything else to stderr."""

    def __init__(self, output: str) -> None:
        """Print as text, or as JSON lines."""
        self._is_json = output == "jsonl"
        self._rest = MessagePrinter(console(is_stderr=True))
        self._streamed = 0

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
        if self._streamed and not message.tool_calls:
            click.echo(text[self._streamed :])
        elif text and not message.tool_calls:
            click.echo(text)
        else:
            self._rest.print(entry)
        if message.stop == "interrupted":
            say("(interrupted)")
        self._streamed = 0

    def progress(self, event: WatchEvent) -> None:
        """Print what is new of the reply that is being written, on a terminal."""
        if self._is_json or not sys.stdout.isatty():
            return
        for call in event.pending:
            if call.progress is None or not call.progress.text:
                continue
            text = clean(call.progress.text)
            start = self._streamed - call.progress.offset
            if 0 <= start < len(text):
                click.echo(text[start:], nl=False)
                self._streamed = call.progress.offset + len(text)

    def prompt(self, lines: Lines) -> None:
        """Say that it is the user's turn."""
        if lines.is_terminal:
            click.echo("> ", err=True, nl=False)


class Chat:
    """One session, from this terminal.

    Args:
        client: Of perdure.
        workflow_id: The session.
        lines: What the user writes.
        printer: Prints.
        seen: Messages that are not printed again.
        asked: Messages that the session has, beside its input.
    """

    def __init__(
        self,
        client: "PerdureClient",
        workflow_id: str,
        *,
        lines: Lines,
        printer: Printer,
        seen: int = 0,
        asked: int = 0,
    ) -> None:
        """Begin."""
        self.id = workflow_id
        self._client = client
        self._lines = lines
        self._printer = printer
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
                if line is None and (self._is_idle or self._lines.is_terminal):
                    line = asyncio.create_task(self._lines.next())
                await asyncio.wait([event] if line is None else [event, line], return_when=asyncio.FIRST_COMPLETED)
                if line is not None and line.done():
                    text, line = line.result(), None
                    if text is None:
                        return False
                    await self._send(text)
                if event.done():
                    self._take(event.result())
                    event = asyncio.create_task(_next(events))
        finally:
            event.cancel()
            if line is not None:
                line.cancel()
        return True

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
            if event.entry.slot >= self._seen:
                self._printer.entry(event.entry)
        elif event.kind == "pending":
            self._printer.progress(event)
        elif event.kind == "idle" and event.read is not None and event.read >= self._asked:
            self._is_idle = True
            self._printer.prompt(self._lines)


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent | None:
    return await anext(events, None)


async def finish(client: "PerdureClient", workflow_id: str) -> None:
    """Say how a session ended.

    Raises:
        RunFailed: It did not complete.
    """
    with run_outcome():
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
        try:
            if isinstance(session, OpenSession):
                talk = await _come_back(client, session, lines, printer)
            else:
                talk = await _begin(client, session, lines, printer)
            if talk is None:
                return
            begun = talk.id
            if await talk.run():
                await finish(client, begun)
            else:
                say(way_back(begun, around.needed))
        except asyncio.CancelledError:
            if begun:
                say("\n" + way_back(begun, around.needed))
            raise


async def _begin(client: "PerdureClient", session: NewSession, lines: Lines, printer: Printer) -> "Chat | None":
    text = session.text
    lines.open()
    if text is None:
        printer.prompt(lines)
        text = await lines.next()
    if text is None:
        return None
    id = await session.begin(client, text)
    say(f"Started {id}.")
    return Chat(client, id, lines=lines, printer=printer)


async def _come_back(client: "PerdureClient", session: OpenSession, lines: Lines, printer: Printer) -> "Chat":
    status = await session.status(client)
    entries = await client.transcript(session.id)
    for entry in entries[-_SHOWN:]:
        printer.entry(entry, is_old=True)
    lines.open()
    seen = entries[-1].slot + 1 if entries else 0
    return Chat(client, session.id, lines=lines, printer=printer, seen=seen, asked=status.received)
