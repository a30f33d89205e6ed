"""The shop's worker, as it was; what perdure added is one argument of `Client.connect`."""

import asyncio
import os

from temporalio.client import Client
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Worker,
)

from perdure.plugin import PerdurePlugin
from shop.agents import app
from shop.money import converter
from shop.refunds import Refund, pay

QUEUE = "shop"


class Audit(Interceptor):
    """Counts what activities the shop's worker runs."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap each activity."""
        return _Audited(next, self)


class _Audited(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, audit: Audit) -> None:
        super().__init__(next)
        self._audit = audit

    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        self._audit.names.append(input.fn.__name__)
        return await super().execute_activity(input)


def make_worker(client: Client, audit: Audit) -> Worker:
    """Return the worker; it knows nothing of perdure."""
    return Worker(client, task_queue=QUEUE, workflows=[Refund], activities=[pay], interceptors=[audit])


async def main() -> None:
    """Serve until killed."""
    address = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
    client = await Client.connect(address, data_converter=converter, plugins=[PerdurePlugin(app)])
    await make_worker(client, Audit()).run()


if __name__ == "__main__":
    asyncio.run(main())
