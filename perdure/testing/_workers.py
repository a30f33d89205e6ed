"""What runs the worker of a test. Wiring for tests."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from temporalio.client import Client

from perdure.app import App


class WorkerRunner(Protocol):
    """Serves an app on a Task Queue."""

    def serving(self, app: App, client: Client, queue: str) -> AbstractAsyncContextManager[None]:
        """Return a context in which a worker polls."""
        ...
