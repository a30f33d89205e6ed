"""perdure's pytest plugin: a server and a runner for tests of agents. It imports nothing until a test asks.

Found by the entry point `pytest11`; `-p no:perdure` switches it off.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure.testing.running import AgentRun


class PerdureServer:
    """A time-skipping server in an event loop of its own, so that tests of any kind can use it.

    Attributes:
        loop: Where everything runs.
        environment: Temporal's own handle on the server, with its client.
    """

    def __init__(self, runner: asyncio.Runner, environment: Any) -> None:
        """Take a server that runs."""
        self._runner = runner
        self.loop = runner.get_loop()
        self.environment = environment

    def run_agent(self, app: Any, agent: str, input: Any, **options: Any) -> "AgentRun":
        """Run an agent, as `perdure.testing.run_agent_test` does."""
        from perdure.testing.running import run_agent_test

        return self.run(run_agent_test(app, agent, input, environment=self.environment, **options))

    def run(self, work: Any) -> Any:
        """Run a coroutine, also from within a test that is one."""
        from concurrent.futures import ThreadPoolExecutor
        from contextvars import copy_context

        context = copy_context()  # `kill_worker_at` is told by it
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._runner.run, work, context=context).result()


@contextmanager
def _serving() -> Generator[PerdureServer]:
    from perdure.testing.running import time_skipping_server

    with asyncio.Runner() as runner:
        server = time_skipping_server()
        environment = runner.run(server.__aenter__())
        try:
            yield PerdureServer(runner, environment)
        finally:
            runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def perdure_server() -> Iterator[PerdureServer]:
    """Temporal's time-skipping server, one for all tests of the session."""
    with _serving() as server:
        yield server


@pytest.fixture
def agent_test(perdure_server: PerdureServer) -> "Callable[..., AgentRun]":
    """A function that runs an agent: `agent_test(app, "researcher", "What …?")`."""
    return perdure_server.run_agent
