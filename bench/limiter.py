"""Part `limiter`: many runs against a vendor that enforces 20 requests a second and 40,000 tokens a minute.

Two workers; the same once more with the limiter switched off. With short calls it is the requests that bind, with
long ones the tokens. The vendor runs in this process.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from bench.fake_llm import Script, read_script, reply
from bench.rate_limits import Vendor
from bench.report import Report, print_table, say
from bench.stack import Child, Stack, start_child
from bench.worker import WorkerConfig

_LATENCY_SECONDS = 0.5
_MIN_GOODPUT = 0.85
_MAX_REFUSED = 0.03
_DEADLINE = timedelta(minutes=5)


@dataclass(frozen=True)
class Workload:
    """What the runs ask for."""

    name: str
    """Which limit binds."""
    runs: int
    calls: int
    """Of each run, one after the other."""
    tokens: int
    """Of each call."""


_FULL = (Workload("requests", 300, 4, 25), Workload("tokens", 300, 1, 300))
_QUICK = (Workload("requests", 100, 3, 25), Workload("tokens", 120, 1, 500))


async def measure_limiter(stack: Stack, *, is_quick: bool) -> Report:
    """Measure each workload with the limiter, and without."""
    report = Report("limiter")
    for work in _QUICK if is_quick else _FULL:
        rows = [await _measure(report, stack, work, is_limited=is_limited) for is_limited in (True, False)]
        title = f"{work.runs} runs of {work.calls} calls of {work.tokens} tokens: {work.name} bind"
        print_table(title, ("limiter", "seconds", "goodput", "429s", "of all calls"), rows)
    report.print_targets()
    return report


async def _measure(report: Report, stack: Stack, work: Workload, *, is_limited: bool) -> list[str]:
    name = "with" if is_limited else "without"
    vendor, seconds = await _run(stack, work, is_limited=is_limited)
    asked = vendor.accepted + vendor.refused
    allowed = min(
        vendor.requests.limit + vendor.requests.rate * seconds,
        (vendor.tokens.limit + vendor.tokens.rate * seconds) / work.tokens,
    )
    goodput, refused = vendor.accepted / allowed, vendor.refused / asked
    say(f"{work.name}, {name}: {vendor.accepted} calls in {seconds:.1f} s, {vendor.refused} refused")
    report.figures[f"{work.name} {name}"] = {
        "seconds": seconds,
        "goodput": goodput,
        "refused": refused,
        "calls": asked,
    }
    if is_limited:
        text = f"{work.name}: goodput {goodput:.0%} (at least {_MIN_GOODPUT:.0%})"
        report.target(text, is_met=goodput >= _MIN_GOODPUT)
        text = f"{work.name}: refused {refused:.1%} (at most {_MAX_REFUSED:.0%})"
        report.target(text, is_met=refused <= _MAX_REFUSED)
    return [name, f"{seconds:.1f}", f"{goodput:.0%}", str(vendor.refused), f"{refused:.1%}"]


async def _run(stack: Stack, work: Workload, *, is_limited: bool) -> tuple[Vendor, float]:
    """Return what the vendor counted, and the seconds from its first call to its last."""
    model = f"bench-T{work.calls - 1}-S10-fetch_local"
    queue = f"limiter-{uuid4().hex[:6]}"
    async with _vendor(work.tokens) as (vendor, times, url):
        workers = [await _start_worker(stack, queue, url, model, is_limited=is_limited) for _ in range(2)]
        client = stack.client(queue)
        started = await client.start_map(model, ["go"] * work.runs, max_parallel=work.runs)
        await client.result(started.workflow_id, timeout=_DEADLINE)
        for worker in workers:
            await worker.stop()
        assert vendor.accepted >= work.runs * work.calls
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
async def _vendor(tokens: int) -> AsyncGenerator[tuple[Vendor, list[float], str]]:
    vendor, times = Vendor(), list[float]()
    began = time.monotonic()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                now = time.monotonic() - began
                wait = vendor.ask(now, tokens)
                extra = "".join(f"{name}: {value}\r\n" for name, value in vendor.headers().items())
                if wait is not None:
                    extra += f"retry-after-ms: {max(1, round(wait * 1000))}\r\n"
                    line = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n"
                    writer.write(f"{line}{extra}\r\n".encode())
                    continue
                times.append(now)
                answer = reply(_script(body), body.count(b'"role":"assistant"'), (tokens - 20) * 4)
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
