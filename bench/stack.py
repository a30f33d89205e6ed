"""The processes of a measurement: perdure's dev server, the fake model, and workers. All end with it."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import psutil
from temporalio.client import Client

from bench.worker import WorkerConfig
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.devserver import DevServer

HERE = Path(__file__).parents[1]
_START_SECONDS = 30
_STOP_SECONDS = 20
_LOG_CHARS = 3000


class Child:
    """A Python module in a process of its own, that says one line when it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, line: str, log: Path) -> None:
        """Use `start_child`."""
        self._process = process
        self.line = line
        self.log = log
        self._ps = psutil.Process(process.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU time that it took so far."""
        return cpu_seconds(self._ps)

    def rss_bytes(self) -> int:
        """Return its resident memory."""
        return self._ps.memory_info().rss

    async def stop(self) -> None:
        """Ask it to end, and kill it if it doesn't."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process, user and system."""
    times = process.cpu_times()
    return times.user + times.system


async def start_child(module: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Child:
    """Start `python -m module` of this source tree, and wait for its first line."""
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); sys.argv[0] = {module!r}; "
    code += f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    log = cwd / f"{module}-{uuid4().hex[:6]}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            *arguments,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
        )
    assert process.stdout is not None
    line = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            line = await process.stdout.readline()
    if not line:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise RuntimeError(f"{module} did not get ready:\n{log.read_text()[-_LOG_CHARS:]}")
    return Child(process, line.decode().strip(), log)


@dataclass
class Stack:
    """One server, one fake model, and clients of both."""

    server: DevServer
    temporal: Client
    fake: Child
    http: httpx.AsyncClient
    folder: Path
    exits: AsyncExitStack
    settings: Mapping[str, Any]
    """Settings of all of perdure's workers, over those that a part asks for."""

    @property
    def base_url(self) -> str:
        """The fake's address."""
        return f"http://127.0.0.1:{self.fake.line}"

    def server_cpu_seconds(self) -> float:
        """Return the CPU time that the Temporal server took so far."""
        assert self.server.pid is not None
        return cpu_seconds(psutil.Process(self.server.pid))

    def client(self, queue: str) -> PerdureClient:
        """Return a client that starts runs on `queue`."""
        return PerdureClient(self.temporal, task_queue=queue)

    async def start_worker(
        self,
        kind: Literal["perdure", "floor"],
        queue: str,
        models: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        has_telemetry: bool = True,
        makes_room: bool = True,
        **settings: Any,
    ) -> Child:
        """Start a worker; it ends with the stack, if not before."""
        config = WorkerConfig(
            kind=kind,
            address=self.server.address,
            queue=queue,
            base_url=f"{self.base_url}/v1",
            models=list(models),
            settings={**settings, **(self.settings if kind == "perdure" else {})},
            has_telemetry=has_telemetry,
            makes_room=makes_room,
        )
        child = await start_child("bench.worker", config.model_dump_json(), cwd=self.folder, env=env)
        self.exits.push_async_callback(child.stop)
        return child

    async def stats(self) -> dict[str, Any]:
        """Return what the fake has counted."""
        stats: dict[str, Any] = (await self.http.get(f"{self.base_url}/stats")).json()
        return stats

    async def calls(self, model: str) -> int:
        """Return how often a model was asked."""
        return int((await self.stats())["calls"].get(model, 0))

    async def post(self, path: str) -> None:
        """Tell the fake to hold or to release."""
        await self.http.post(f"{self.base_url}{path}")


@asynccontextmanager
async def open_stack(settings: Mapping[str, Any]) -> AsyncGenerator[Stack]:
    """Start the server, with a file database in a temporary folder, and the fake model."""
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="perdure-bench-")))
        server = await exits.enter_async_context(DevServer(folder / "server", port=0, ui_port=0))
        fake = await start_child("bench.fake_llm", cwd=folder)
        exits.push_async_callback(fake.stop)
        http = await exits.enter_async_context(httpx.AsyncClient(timeout=60))
        temporal = await connect(address=server.address)
        yield Stack(server, temporal, fake, http, folder, exits, settings)
