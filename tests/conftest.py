"""What all tests share: a clean environment, and one real dev server for those that need it."""

import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings
from temporalio.client import Client

from perdure.connection import connect
from perdure.devserver import DevServer
from tests.support.require_all import pytest_configure, pytest_configure_node, pytest_runtest_makereport

__all__ = ["pytest_configure", "pytest_configure_node", "pytest_runtest_makereport", "server", "temporal"]

for _name in [name for name in os.environ if name.startswith(("PERDURE_", "TEMPORAL_", "OTEL_"))]:
    del os.environ[_name]

# The machine's load is no property of the code.
settings.register_profile("perdure", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perdure")


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevServer]:
    async with DevServer(tmp_path_factory.mktemp("server"), port=0, ui_port=0) as running:
        yield running


@pytest.fixture(scope="session")
async def temporal(server: DevServer) -> Client:
    return await connect(address=server.address)
