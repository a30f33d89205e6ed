"""The health endpoint of a worker: /live and /ready. Wiring only; it answers orchestrators, nobody else."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from perdure._production import Address
from perdure.errors import SettingsError

_log = logging.getLogger(__name__)

_READ_SECONDS = 5.0
_ASK_TIMEOUT = timedelta(seconds=2)
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Health:
    """Knows whether the workers of this process live and are ready.

    It answers from the event loop that the calls run on: when that hangs, there is no answer, and the process is
    as good as dead.
    """

    def __init__(self, client: Client, workers: Sequence[Worker], stop: asyncio.Event) -> None:
        """Look at these; `stop` is set when they begin to stop."""
        self._client = client
        self._workers = workers
        self._stop = stop

    @asynccontextmanager
    async def served(self, address: Address) -> AsyncGenerator[int]:
        """Answer at an address, and yield the port.

        Raises:
            SettingsError: The address can't be listened on. Not retryable.
        """
        try:
            server = await asyncio.start_server(self._answer, address.host, address.port)
        except OSError as error:
            raise SettingsError(
                f"health_address: can't listen on {address}: {error.strerror or error}. Choose another address."
            ) from None
        async with server:
            port: int = server.sockets[0].getsockname()[1]
            _log.info("Answers /live and /ready on %s", Address(address.host, port))
            yield port

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """Say whether calls and workflow tasks are taken: 200, or 503 with the reason."""
        if self._stop.is_set():
            return 503, {"status": "stopping"}
        stopped = [worker.task_queue for worker in self._workers if not worker.is_running]
        if stopped:
            return 503, {"status": "not polling", "task_queues": stopped}
        try:
            is_serving = await self._client.service_client.check_health(timeout=_ASK_TIMEOUT)
        except RPCError as error:
            return 503, {"status": "no server", "reason": error.status.name}
        if not is_serving:
            return 503, {"status": "no server", "reason": "NOT_SERVING"}
        return 200, {"status": "ready", "task_queues": [worker.task_queue for worker in self._workers]}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            code, body = await self._route(head)
            text = json.dumps(body).encode() + b"\n"
            status = f"HTTP/1.1 {code} {_REASONS[code]}\r\n"
            headers = f"content-type: application/json\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n"
            writer.write((status + headers).encode() + (b"" if head.startswith(b"HEAD ") else text))
            await writer.drain()
        writer.close()

    async def _route(self, head: bytes) -> tuple[int, dict[str, Any]]:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path not in (b"/live", b"/ready"):
            return 404, {"status": "unknown", "paths": ["/live", "/ready"]}
        if method not in (b"GET", b"HEAD"):
            return 405, {"status": "only GET"}
        return (200, {"status": "live"}) if path == b"/live" else await self.ready()
