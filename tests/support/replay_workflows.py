"""A workflow as it was, and as a deploy might change it: each is `Order` to Temporal."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

from perdure.workflows import run_agent

_TIME = timedelta(seconds=20)


@activity.defn
async def reserve(sku: str) -> str:
    return f"reserved {sku}"


@activity.defn
async def charge(sku: str) -> str:
    return f"charged {sku}"


@activity.defn
async def notify(sku: str) -> str:
    return f"told of {sku}"


async def _do(name: str, sku: str, *, timeout: timedelta = _TIME) -> None:
    await workflow.execute_activity(name, sku, start_to_close_timeout=timeout)


class _Waiting:
    def __init__(self) -> None:
        self._is_closed = False

    @workflow.signal
    def close(self) -> None:
        self._is_closed = True

    async def _end(self) -> str:
        await workflow.wait_condition(lambda: self._is_closed)
        return "done"


@workflow.defn(name="Order")
class Order(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku)
        await run_agent("clerk", sku)
        await _do("charge", sku)
        return await self._end()


@workflow.defn(name="Order")
class Added(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku)
        await _do("notify", sku)
        await run_agent("clerk", sku)
        await _do("charge", sku)
        return await self._end()


@workflow.defn(name="Order")
class AddedFirst(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("notify", sku)
        await _do("reserve", sku)
        await run_agent("clerk", sku)
        await _do("charge", sku)
        return await self._end()


@workflow.defn(name="Order")
class Removed(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku)
        await run_agent("clerk", sku)
        return await self._end()


@workflow.defn(name="Order")
class WithoutAgent(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku)
        await _do("charge", sku)
        return await self._end()


@workflow.defn(name="Order")
class Reordered(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("charge", sku)
        await run_agent("clerk", sku)
        await _do("reserve", sku)
        return await self._end()


@workflow.defn(name="Order")
class Sleeping(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku)
        await asyncio.sleep(1)
        await run_agent("clerk", sku)
        await _do("charge", sku)
        return await self._end()


@workflow.defn(name="Order")
class Broken(_Waiting):
    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku)
        await run_agent("clerk", sku)
        await _do("charge", sku)
        raise KeyError(sku)


@workflow.defn(name="Ordering")
class Renamed(Order):
    @workflow.run
    async def run(self, sku: str) -> str:
        return await super().run(sku)


@workflow.defn(name="Order")
class Patched(_Waiting):
    """As `Added`, with the old way kept; and other timeouts."""

    @workflow.run
    async def run(self, sku: str) -> str:
        await _do("reserve", sku, timeout=timedelta(minutes=5))
        if workflow.patched("tell"):
            await _do("notify", sku)
        await run_agent("clerk", sku)
        await _do("charge", sku, timeout=timedelta(minutes=5))
        await self._end()
        return "done, another way"
