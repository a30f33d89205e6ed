"""Asking whoever sits at the terminal what a run waits for. Only where both stdin and the console are one."""

import asyncio
import json
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from perdure.cli._people import parse_object, wait_lines
from perdure.cli._render import print_labelled
from perdure.client import RunWaits
from perdure.contracts.waits import Wait
from perdure.errors import InvalidInputError, PerdureError, RunNotFoundError

if TYPE_CHECKING:
    from perdure.client import PerdureClient


def can_ask(out: Console) -> bool:
    """Say whether a person can be asked here."""
    return out.is_terminal and sys.stdin.isatty()


class Lines:
    """Lines of stdin, read by one thread that nobody waits for: a prompt can be given up, and no line is lost."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.is_terminal = sys.stdin.isatty()
        self._queue: asyncio.Queue[str] | None = None

    async def next(self) -> str:
        """Return the next line, without its end; raise EOFError where there is none any more."""
        if self._queue is None:
            self._queue = asyncio.Queue()
            loop, queue = asyncio.get_running_loop(), self._queue
            threading.Thread(target=_read, args=(loop, queue), daemon=True).start()
        line = await self._queue.get()
        if not line:
            self._queue.put_nowait("")
            raise EOFError
        return line.rstrip("\r\n")


def _read(loop: asyncio.AbstractEventLoop, queue: "asyncio.Queue[str]") -> None:
    while True:
        line = sys.stdin.readline()
        try:
            loop.call_soon_threadsafe(queue.put_nowait, line)
        except RuntimeError:  # the loop is closed: the command is over
            return
        if not line:
            return


class Asker:
    """Puts what waits to the person at the terminal, one after another.

    Attributes:
        is_asking: Whether a prompt is shown.
    """

    def __init__(self, client: "PerdureClient", out: Console, lines: Lines | None = None) -> None:
        """Ask nothing yet."""
        self._client = client
        self._out = out
        self._lines = lines or Lines()
        self._waits: dict[str, tuple[RunWaits, Wait]] = {}
        self._put_off: set[str] = set()
        self._changed = asyncio.Event()
        self.is_asking = False

    def note(self, runs: Sequence[RunWaits]) -> None:
        """Take in what waits now."""
        self._waits = {wait.id: (run, wait) for run in runs for wait in run.waits if wait.id}
        self._changed.set()

    @property
    def has_more(self) -> bool:
        """Whether there is something that was not asked yet."""
        return any(name not in self._put_off for name in self._waits)

    async def ask_all(self) -> None:
        """Ask about everything that waits; what is decided elsewhere meanwhile is let go."""
        self.is_asking = True
        try:
            while self.has_more:
                name = next(name for name in self._waits if name not in self._put_off)
                run, wait = self._waits[name]
                await self._ask_unless_decided(run, wait)
                self._put_off.add(name)
        except EOFError:
            self._put_off.update(self._waits)
        finally:
            self.is_asking = False

    async def _ask_unless_decided(self, run: RunWaits, wait: Wait) -> None:
        asking = asyncio.create_task(self._ask(run, wait))
        gone = asyncio.create_task(self._until_gone(wait.id))
        try:
            await asyncio.wait([asking, gone], return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()
            else:
                self._out.print("\n(decided elsewhere)", style="dim")
        finally:
            for task in (asking, gone):
                task.cancel()
            await asyncio.gather(asking, gone, return_exceptions=True)

    async def _until_gone(self, name: str) -> None:
        while name in self._waits:
            self._changed.clear()
            await self._changed.wait()

    async def _ask(self, run: RunWaits, wait: Wait) -> None:
        self._out.print()
        for label, value in wait_lines(run, wait):
            print_labelled(self._out, label, value, width=12)
        while True:
            try:
                await (self._question(run, wait) if wait.kind == "question" else self._approval(run, wait))
            except RunNotFoundError:
                return
            except (InvalidInputError, PerdureError) as error:
                self._out.print(error.message, style="red")
                if wait.id not in self._waits:
                    return
            else:
                return

    async def _approval(self, run: RunWaits, wait: Wait) -> None:
        said = (await self._prompt("Approve? [y]es, [n]o, [a]lways, [e]dit, [l]ater: ")).lower()
        match said:  # the whole of it: what begins with an n may be a message to the agent, typed just before
            case "n" | "no":
                await self._client.deny(run.workflow_id, wait.id, reason=await self._prompt("Reason: "))
            case "e" | "edit":
                self._out.print(json.dumps(_values(wait.arguments), ensure_ascii=False), style="dim")
                given = parse_object(await self._prompt("Arguments, as JSON: "), "The input")
                await self._client.approve(run.workflow_id, wait.id, arguments=given)
            case "y" | "yes" | "a" | "always":
                await self._client.approve(run.workflow_id, wait.id, is_always=said.startswith("a"))
            case "l" | "later":
                self._out.print(f"Later: perdure approve {run.workflow_id} {wait.id}", style="dim")
            case _:
                raise InvalidInputError("Type y, n, a, e or l.")

    async def _question(self, run: RunWaits, wait: Wait) -> None:
        said = await self._prompt("Answer (nothing for later): ")
        if said:
            await self._client.answer_text(run.workflow_id, said, wait.id)
        else:
            self._out.print(f"Later: perdure answer {run.workflow_id} TEXT --call {wait.id}", style="dim")

    async def _prompt(self, text: str) -> str:
        self._out.print(text, end="", style="bold", markup=False)
        self._out.file.flush()
        return (await self._lines.next()).strip()


class Prompts:
    """Asks while a run is followed: what is shown live makes room for the prompt."""

    def __init__(self, client: "PerdureClient", out: Console, live: Live | None) -> None:
        """Ask nothing yet."""
        self._asker = Asker(client, out)
        self._live = live
        self._task: asyncio.Task[None] | None = None

    def note(self, runs: Sequence[RunWaits]) -> None:
        """Take in what waits now, and ask where nobody is asked yet."""
        self._asker.note(runs)
        if self._asker.has_more and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        if self._live is not None:
            self._live.update(Text(), refresh=True)
            self._live.stop()
        try:
            await self._asker.ask_all()
        finally:
            if self._live is not None:
                self._live.start()

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _values(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
