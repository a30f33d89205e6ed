"""The embedded Temporal server: the official `temporal` binary with a file database. Wiring.

Owns one process, the folder `state_dir` with its database, log and lock, and nothing else. The server runs in
a session of its own, so Ctrl-C in the terminal reaches us only and we stop it last. It inherits the lock
file, so the lock lasts exactly as long as the server, even when we are killed. On Linux the server is killed
as well when the *thread* that started it ends: start it from one that lives on. Elsewhere a killed parent
leaves it running, and the next start on that port uses it.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

from temporalio.service import RPCError, RPCStatusCode

from perdure._local_server import (
    HOST,
    find_binary,
    free_port,
    is_free,
    kill,
    open_record,
    probe,
    read_record,
    spawn,
    try_lock,
    wait_exit,
)
from perdure._search_attributes import add_search_attributes, existing_search_attributes
from perdure.contracts.names import SEARCH_ATTRIBUTES
from perdure.errors import DevServerError

__all__ = ["DevServer", "add_search_attributes", "existing_search_attributes"]

_REMEDY = "Choose another by `--port` or PERDURE_DEV_PORT."
_TRIES = 5
_EXTERNAL_TIMEOUT = timedelta(seconds=5)
_STOP_TIMEOUT = timedelta(seconds=10)
_LOCK_TIMEOUT = timedelta(seconds=2)
_LOG_BYTES = 10 * 1024 * 1024
_STARTED = "Temporal Server:"
"""What the binary prints once it listens."""

_DYNAMIC_CONFIG = {
    # The defaults poll the queues of the one history shard 20 times a second: 50 ms a step.
    "history.transferProcessorMaxPollRPS": "5000",
    "history.timerProcessorMaxPollRPS": "5000",
    "matching.enableFairness": "true",
    # Workers are told at once that a call is cancelled, rather than in the answer to its next heartbeat.
    "frontend.WorkerCommandsEnabled": "true",
    "system.enableCancelActivityWorkerCommand": "true",
    # Rates and fairness hold for each partition of a Task Queue by itself, and one process needs no more than one.
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    # How old the backlog may be that the server tells; 5 s when not set.
    "matching.TaskQueueInfoByBuildIdTTL": '"500ms"',
}


class DevServer:
    """An embedded server, or the Temporal server that is already on its port.

    Args:
        state_dir: Keeps the database, the log and the lock; one server at a time.
        port: Its port on 127.0.0.1; 0 is any free one.
        ui_port: The port of its web UI; a free one is taken where this one isn't.
        in_memory: Keep nothing on disk but the log.
        dynamic_config: More of the server's dynamic configuration; values are JSON.
        startup_timeout: How long the server may take to answer.

    Attributes:
        is_external: Whether the server was there already; it is then not stopped.
        version: The server's version, once started.
        ui_url: The web UI; None if the server is external and not one of `state_dir`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 7233,
        ui_port: int = 8233,
        in_memory: bool = False,
        dynamic_config: Mapping[str, str] = MappingProxyType({}),
        startup_timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        """Start nothing yet."""
        self.state_dir = state_dir.absolute()
        self.port = port
        self.ui_url: str | None = None
        self.is_external = False
        self.version = ""
        self._is_free_choice = port == 0
        self._ui_port = ui_port
        self._in_memory = in_memory
        self._dynamic_config = {**_DYNAMIC_CONFIG, **dynamic_config}
        self._startup_timeout = startup_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def address(self) -> str:
        """`host:port` of the server."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the server; None if it is external or not running."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.state_dir / "temporal.log"

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the server."""
        await self.stop()

    async def start(self) -> None:
        """Start the server, or find the one that is there; return once it works.

        Raises:
            DevServerError: The binary is missing, the port or the folder is taken, or the server fails.
        """
        if self._process is not None and self._process.poll() is None:
            return None
        self.is_external = False
        for _ in range(_TRIES):
            if not self._is_free_choice and not is_free(self.port):
                return await self._use_external()
            if await self._launch(find_binary()):
                return None
        raise DevServerError(f"The embedded server found its ports taken, {_TRIES} times. {_REMEDY}")

    async def stop(self) -> None:
        """Stop the server, unless it is external; kill it if it doesn't, or if this is cancelled."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT.total_seconds()):
                    await wait_exit(process)
        finally:
            kill(process)

    async def wait(self) -> int:
        """Wait for the server to end by itself and return its exit code; for ever if it is external."""
        while self._process is None:
            await asyncio.Event().wait()
        return await wait_exit(self._process)

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that this server logged."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(self._log_start)
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    async def _use_external(self) -> None:
        deadline = time.monotonic() + _EXTERNAL_TIMEOUT.total_seconds()
        while True:
            try:
                self.version = await probe(self.address, timedelta(seconds=2))
                break
            except RPCError as error:
                if time.monotonic() > deadline or error.status is RPCStatusCode.NOT_FOUND:
                    raise DevServerError(
                        f"A Temporal server is on port {self.port} already, but doesn't work: {error}. {_REMEDY}",
                        port=self.port,
                    ) from error
            except (RuntimeError, TimeoutError) as error:
                raise DevServerError(
                    f"Port {self.port} is taken by something that isn't a Temporal server. {_REMEDY}",
                    port=self.port,
                ) from error
            await asyncio.sleep(0.1)
        self.is_external = True
        record = read_record(self.state_dir)
        self.ui_url = f"http://{HOST}:{record['ui_port']}" if record.get("port") == self.port else None

    async def _launch(self, binary: str) -> bool:
        """Start the server; False if one of its ports was taken meanwhile."""
        self.port = free_port() if self._is_free_choice else self.port
        ui_port = self._ui_port if self._ui_port and is_free(self._ui_port) else free_port()
        self._prepare_folder()
        with closing(await self._lock()) as lock:
            self._process = spawn(self._command(binary, ui_port), log=self.log_file, kept=lock)
            record = {"pid": self._process.pid, "port": self.port, "ui_port": ui_port}
            lock.truncate(0)
            lock.write(json.dumps(record).encode())
        try:
            is_ready = await self._wait_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        if not is_ready:
            self._process = None
            return self._explain_exit()
        self.ui_url = f"http://{HOST}:{ui_port}"
        self._is_free_choice = False  # a restart keeps its clients
        return True

    def _prepare_folder(self) -> None:
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True)
            (self.state_dir / ".gitignore").write_text("*\n")
            if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES:
                self.log_file.replace(self.log_file.with_suffix(".log.1"))
            self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        except OSError as error:
            raise DevServerError(
                f"Can't write to {self.state_dir}: {error.strerror}. Choose a folder by PERDURE_STATE_DIR."
            ) from error

    async def _lock(self) -> IO[bytes]:
        """Take the folder's lock; a server that is just ending gets a moment."""
        deadline = time.monotonic() + _LOCK_TIMEOUT.total_seconds()
        file = open_record(self.state_dir)
        while not try_lock(file, self.state_dir):
            if time.monotonic() > deadline:
                file.close()
                raise self._in_use()
            await asyncio.sleep(0.05)
        return file

    def _in_use(self) -> DevServerError:
        other = read_record(self.state_dir)
        pid, port = other.get("pid", "unknown"), other.get("port", "unknown")
        return DevServerError(
            f"Another server uses {self.state_dir}: process {pid} on port {port}. Use it by"
            f" TEMPORAL_ADDRESS={HOST}:{port}, stop it, or choose another folder by PERDURE_STATE_DIR.",
            pid=pid,
            port=port,
        )

    def _command(self, binary: str, ui_port: int) -> list[str]:
        command = [binary, "server", "start-dev", "--ip", HOST, "--log-level", "warn"]
        command += ["--port", str(self.port), "--ui-port", str(ui_port)]
        if not self._in_memory:
            command += ["--db-filename", str(self.state_dir / "temporal.db")]
        for key, value in self._dynamic_config.items():
            command += ["--dynamic-config-value", f"{key}={value}"]
        for name, kind in SEARCH_ATTRIBUTES.items():
            command += ["--search-attribute", f"{name}={kind}"]
        return command

    async def _wait_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server works; False if it exited.

        A server of someone else's that won the race for the port would answer too, so that ours has to have
        said that it listens, or to be still there after a second.
        """
        deadline = time.monotonic() + self._startup_timeout.total_seconds()
        answered: float | None = None
        problem: object = "nothing answers"
        while process.poll() is None:
            if answered is None:
                try:
                    self.version = await probe(self.address, timedelta(seconds=5))
                    answered = time.monotonic()
                except (RPCError, RuntimeError, TimeoutError) as error:
                    problem = error
            has_settled = answered is not None and time.monotonic() > answered + 1
            if answered is not None and (has_settled or _STARTED in self.log_tail()):
                return process.poll() is None
            if time.monotonic() > deadline:
                raise DevServerError(
                    f"The embedded server doesn't work after {self._startup_timeout.total_seconds():g} s:"
                    f" {problem}. See {self.log_file}.\n{self.log_tail()}",
                    log=str(self.log_file),
                )
            await asyncio.sleep(0.02)
        return False

    def _explain_exit(self) -> bool:
        """Return False if another try may help, else raise."""
        tail = self.log_tail()
        if "address already in use" in tail:
            return False
        hint = ""
        if "not a database" in tail or "malformed" in tail:
            hint = f" The database is damaged: restore {self.state_dir / 'temporal.db'}, or move it away."
        raise DevServerError(
            f"The embedded server ended at once.{hint} See {self.log_file}:\n{tail}", log=str(self.log_file)
        )
