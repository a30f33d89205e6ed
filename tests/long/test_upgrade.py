"""A new build takes over: open runs move to it, or stay with the build that they began on."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Literal
from uuid import uuid4

import pytest
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure import Agent, App, tool
from perdure.client import PerdureClient
from perdure.testing import ScriptedModel
from perdure.testing.scripted import calls
from tests.support.workers import worker

TIME = timedelta(seconds=60)


class Build:
    """A version of an app: it knows what its model was asked, and its tool waits until it is let go."""

    def __init__(self, build_id: str) -> None:
        self.id = build_id
        self.model = ScriptedModel([calls(("work", {})), f"done by {build_id}"])
        self.at_work, self.let_go = asyncio.Event(), asyncio.Event()

    def app(self) -> App:
        @tool
        async def work() -> str:
            """Work."""
            self.at_work.set()
            await self.let_go.wait()
            return f"worked by {self.id}"

        return App(agents=[Agent("worker", model="scripted:x", tools=[work])], providers=[self.model])


async def make_current(client: Client, deployment: str, build_id: str) -> None:
    """Say which version new runs start on, as soon as the server knows it."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=deployment, build_id=build_id, identity="test"
    )
    async with asyncio.timeout(30):
        while True:
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
                return
            except RPCError as error:
                if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
                    raise
                await asyncio.sleep(0.2)


@pytest.mark.parametrize(("versioning", "ends_on"), [("auto_upgrade", "new"), ("pinned", "old")])
async def test_open_runs_when_a_new_build_comes(
    temporal: Client, versioning: Literal["auto_upgrade", "pinned"], ends_on: str
) -> None:
    queue, deployment = f"q-{uuid4().hex[:8]}", f"d-{uuid4().hex[:8]}"
    old, new = Build("old"), Build("new")
    new.let_go.set()
    options = {"deployment_name": deployment, "versioning": versioning, "model_task_queue": f"{queue}-models"}
    client = PerdureClient(temporal, task_queue=queue)
    async with AsyncExitStack() as stack:
        stopping = await stack.enter_async_context(AsyncExitStack())
        await stopping.enter_async_context(worker(old.app(), temporal, queue=queue, build_id=old.id, **options))
        await make_current(temporal, deployment, old.id)
        opened = await client.start_agent("worker", "go")
        await asyncio.wait_for(old.at_work.wait(), 30)
        await stack.enter_async_context(worker(new.app(), temporal, queue=queue, build_id=new.id, **options))
        await make_current(temporal, deployment, new.id)
        later = await client.start_agent("worker", "go")
        assert (await client.result(later.workflow_id, timeout=TIME)).output == "done by new"
        old.let_go.set()
        if versioning == "auto_upgrade":
            await stopping.aclose()  # the build before has nothing to do but to finish its calls
        result = await client.result(opened.workflow_id, timeout=TIME)
    assert result.output == f"done by {ends_on}"
    assert len(old.model.requests) == (1 if ends_on == "new" else 2)
