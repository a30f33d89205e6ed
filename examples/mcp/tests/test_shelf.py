"""How a project tests an agent with MCP servers: the servers are real, and so is what is in mcp.lock."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shelf.app import app
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure.client import PerdureClient
from perdure.plugin import PerdurePlugin

QUEUE = "shelf"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Return a client of a server with a worker."""
    binary = str(Path(sys.executable).with_name("temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, plugins=[PerdurePlugin(app)]
    )
    async with environment, Worker(environment.client, task_queue=QUEUE):
        yield environment.client


async def test_an_answer_from_the_servers_tools(client: Client) -> None:
    perdure = PerdureClient(client, task_queue=QUEUE, registry=app.registry)
    run = await perdure.start_agent("reader", "How high is a spring tide?")
    result = await perdure.result(run.workflow_id)
    assert "four and a half metres" in str(result.output)
    messages = [entry.message for entry in await perdure.transcript(run.workflow_id)]
    assert [call.name for message in messages for call in message.tool_calls][:1] == ["notes__search"]
