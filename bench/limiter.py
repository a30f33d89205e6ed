"""Part `limiter`: many runs against a vendor that enforces 20 requests a second and 40,000 tokens a minute.

Two workers; the same once more with the limiter switched off. The vendor runs in this process.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import uuid4

from bench.fake_llm import Script, read_script, reply
from bench.rate_limits import Vendor
from bench.report import Report, print_table, say
from bench.stack import Child, Stack, start_child
from bench.worker import WorkerConfig

_LATENCY_SECONDS = 0.5
_TOKENS = 40
_MIN_GOODPUT = 0.85
_MAX_REFUSED = 0.03
_DEADLINE = timedelta(minutes=5)


async def measure_limiter(stack: Stack, *, is_quick: bool) -> Report:
    """Measure with the limiter, and without."""
    report = Report("limiter")
    runs, calls = (100, 3) if is_quick else (300, 4)
    rows: list[list[str]] = []
    for is_limited in (True, False):
        name = "with" if is_limited else "without"
        vendor, seconds = await _run(stack, runs, calls, is_limited=is_limited)
        asked = vendor.accepted + vendor.refused
        allowed = min(
            vendor.requests.limit + vendor.requests.rate * seconds,
            (vendor.tokens.limit + vendor.tokens.rate * seconds) / _TOKENS,
        )
        goodput, refused = vendor.accepted / allowed, vendor.refused / asked
        say(f"{name}: {vendor.accepted} of {runs * calls} calls in {seconds:.1f} s, {vendor.refused} refused")
        rows.append([name, f"{seconds:.1f}", f"{goodput:.0%}", str(vendor.refused), f"{refused:.1%}"])
        report.figures[name] = {"seconds": seconds, "goodput": goodput, "refused": refused, "calls": asked}
        if is_limited:
            report.target(f"goodput {goodput:.0%} (at least {_MIN_GOODPUT:.0%})", is_met=goodput >= _MIN_GOODPUT)
            report.target(f"refused {refused:.1%} (at most {_MAX_REFUSED:.0%})", is_met=refused <= _MAX_REFUSED)
    print_table(f"{runs} runs of {calls} calls", ("limiter", "seconds", "goodput", "429s", "of all calls"), rows)
    report.print_targets()
    return report


async def _run(stack: Stack, runs: int, calls: int, *, is_limited: bool) -> tuple[Vendor, float]:
    """Return what the vendor counted, and the seconds from its first call to its last."""
    model = f"bench-T{calls - 1}-S10-fetch_local"
    queue = f"limiter-{uuid4().hex[:6]}"
    async with _vendor() as (vendor, times, url):
        workers = [await _start_worker(stack, queue, url, model, is_limited=is_limited) for _ in range(2)]
        client = stack.client(queue)
        started = await client.start_map(model, ["go"] * runs, max_parallel=runs)
        await client.result(started.workflow_id, timeout=_DEADLINE)
        for worker in workers:
            await worker.stop()
        assert vendor.accepted >= runs * calls
        return vendor, times[-1] - times[0]


async def _start_worker(stack: Stack, queue: str, url: str, model: str, *, is_limited: bool) -> Child:
    config = WorkerConfig(
        kind="perdure",
        address=stack.server.address,
        queue=queue,
        base_url=url,
        models=[model],
        settings=dict(stack.settings),
        is_limited=is_limited,
    )
    child = await start_child("bench.worker", config.model_dump_json(), cwd=stack.folder)
    stack.exits.push_async_callback(child.stop)
    return child


@asynccontextmanager
async def _vendor() -> AsyncGenerator[tuple[Vendor, list[float], str]]:
    vendor, times = Vendor(), list[float]()
    began = time.monotonic()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                now = time.monotonic() - began
                wait = vendor.ask(now, _TOKENS)
                extra = "".join(f"{name}: {value}\r\n" for name, value in vendor.headers().items())
                if wait is not None:
                    extra += f"retry-after-ms: {max(1, round(wait * 1000))}\r\n"
                    line = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n"
                    writer.write(f"{line}{extra}\r\n".encode())
                    continue
                times.append(now)
                answer = reply(_script(body), body.count(b'"role":"assistant"'), (_TOKENS - 20) * 4)
                first, rest = answer.split(b"\r\n", 1)
                writer.write(first + b"\r\n" + extra.encode() + rest[: rest.index(b"\r\n\r\n") + 4])
                await asyncio.sleep(_LATENCY_SECONDS)
                writer.write(rest[rest.index(b"\r\n\r\n") + 4 :])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    async with server:
        yield vendor, times, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def _script(body: bytes) -> Script:
    start = body.index(b"bench-")
    return read_script(body[start : body.index(b'"', start)].decode())
