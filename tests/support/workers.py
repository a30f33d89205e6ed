"""Workers for tests: in this process, or in one of their own that can be killed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.client import Client

from perdure.app import App
from perdure.client import PerdureClient
from perdure.settings import Settings
from perdure.worker import run_worker

ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """A worker of `tests.support.serve`; killed at the latest when its context ends."""

    def __init__(
        self, address: str, queue: str, app: str, *, env: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        self._command = [sys.executable, "-m", "tests.support.serve", address, queue, app, json.dumps(settings)]
        self._env = {**os.environ, **(env or {})}
        self._process: asyncio.subprocess.Process | None = None
        self.log = ""

    async def __aenter__(self) -> "WorkerProcess":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._reading = asyncio.create_task(self._read_log())
        line = await self._process.stdout.readline()
        assert line == b"ready\n", f"the worker did not start: {self.log}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        """End it as the kernel would: no clean-up."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            await self._reading

    async def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = await self._process.wait()
        await self._reading
        return code

    async def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self.log += line.decode()


@asynccontextmanager
async def worker(app: App, client: Client, *, queue: str = "", **settings: Any) -> AsyncGenerator[PerdureClient]:
    """Run a worker in this process, and yield a client that starts runs on it."""
    queue = queue or f"q-{uuid4().hex[:8]}"
    stop = asyncio.Event()
    ready = asyncio.Event()
    made = Settings.model_validate({"task_queue": queue, "project_dir": Path("/tmp"), **settings})
    running = asyncio.create_task(run_worker(app, made, client, stop=stop, on_ready=ready.set))
    getting_ready = asyncio.create_task(ready.wait())
    await asyncio.wait([running, getting_ready], return_when=asyncio.FIRST_COMPLETED)
    getting_ready.cancel()
    try:
        yield PerdureClient(client, task_queue=queue, registry=app.registry, scoreboard=made.scoreboard)
    finally:
        stop.set()
        await running
