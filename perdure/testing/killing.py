"""`kill_worker_at`: the worker of a test dies in the middle of a run, and another goes on. Wiring for tests.

The run is on a real server, since what is lost with a worker is noticed by clocks: that takes some seconds. The
worker is a process of its own, killed by the kernel (SIGKILL): nothing is cleaned up, nothing is told.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from temporalio.client import Client

from perdure.app import App
from perdure.errors import InvalidInputError
from perdure.testing.running import RUNNER

_START_SECONDS = 30


class Killing:
    """A worker in a process of its own, which is started again when it dies.

    Attributes:
        kills: How often it was killed.
    """

    def __init__(self, turn: int, marker: Path) -> None:
        """Start nothing yet."""
        self._turn = turn
        self._marker = marker
        self.kills = 0

    @asynccontextmanager
    async def serving(self, app: App, client: Client, queue: str) -> AsyncGenerator[None]:
        """Serve an app until the context ends, by as many processes as that takes."""
        order = {
            "address": client.service_client.config.target_host,
            "queue": queue,
            "app": reference_of(app),
            "turn": self._turn,
            "marker": str(self._marker),
        }
        ready = asyncio.Event()
        keeping = asyncio.create_task(self._keep(json.dumps(order), ready))
        waiting = asyncio.create_task(ready.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.wait([keeping, waiting], return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            yield
        finally:
            waiting.cancel()
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, order: str, ready: asyncio.Event) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "perdure.testing._mortal", order),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert process.stdout is not None
                if await process.stdout.readline() == b"ready\n":
                    ready.set()
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if not self._marker.exists() or self.kills:
                raise RuntimeError(f"The worker of the test ended by itself, with {code}: see stderr.")
            self.kills += 1


@contextmanager
def kill_worker_at(*, turn: int) -> Generator[Killing]:
    """Kill the worker of `run_agent_test` once, at a turn.

    It dies with the model's reply in its hands, before that is recorded: the worst moment.

    Args:
        turn: The model call of the run, counted from 1.

    Raises:
        InvalidInputError: The App is in no module, so that no other process can import it. Not retryable.
        AssertionError: When the context ends: no worker was killed.
    """
    with tempfile.TemporaryDirectory(prefix="perdure-kill-") as folder:
        killing = Killing(turn, Path(folder) / "killed")
        token = RUNNER.set(killing)
        try:
            yield killing
        finally:
            RUNNER.reset(token)
        assert killing.kills, f"No worker was killed: the run had no turn {turn}."


def reference_of(app: App) -> str:
    """Return where an App is, as `module:attribute`.

    Raises:
        InvalidInputError: It is in no module. Not retryable.
    """
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and name != "__main__":
                return f"{name}:{attribute}"
    raise InvalidInputError(
        "The worker is to run in a process of its own, which can't import this App: make it a variable of a"
        " module."
    )
