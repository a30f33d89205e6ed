"""A new build takes over: open runs move to it, or stay with the build that they began on; pinned either way."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

import pytest
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure import Agent, App, Limits, tool
from perdure.client import PerdureClient
from perdure.contracts.messages import Message, ToolResultPart
from perdure.contracts.steering import Session
from perdure.providers.base import ModelRequest
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


_NOT_YET = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.CANCELLED)
"""What the server says before it has heard of the version, or while it is busy with that."""


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
                if error.status not in _NOT_YET:
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


@tool(name="weigh", idempotent=True)
def weigh_before(what: str) -> str:
    """Weigh a thing."""
    return f"{what} weighs 3 kg"


@tool(name="weigh", idempotent=True)
def weigh_since(thing: str, unit: str = "g") -> str:
    """Weigh a thing, in a unit."""
    return f"{thing} weighs 3000 {unit}"


def _weigh(request: ModelRequest, messages: list[Message]) -> Any:
    """Weigh what the user names, as the tool was first described."""
    last = messages[-1]
    is_asked = last.role == "user" and request.may_call_tools
    return calls(("weigh", {"what": last.text})) if is_asked else f"answer {len(messages)}"


async def test_an_open_run_keeps_what_it_began_with(temporal: Client) -> None:
    """P3: the model is asked with the prompt, schemas and limits of the start, whatever the app has now."""
    queue = f"q-{uuid4().hex[:8]}"
    before, since = ScriptedModel(_weigh), ScriptedModel(_weigh)
    old = Agent(
        "scale", model="scripted:x", instructions="Weigh.", tools=[weigh_before], limits=Limits(max_turns=20)
    )
    new = Agent(
        "scale", model="scripted:y", instructions="Don't weigh.", tools=[weigh_since], limits=Limits(max_turns=1)
    )
    async with worker(App(agents=[old], providers=[before]), temporal, queue=queue) as client:
        run = await client.start_agent("scale", "salt", session=Session(idle_timeout=timedelta(hours=1)))
        await _answered(client, run.workflow_id, 1)
    async with worker(App(agents=[new], providers=[since]), temporal, queue=queue) as client:
        await client.send(run.workflow_id, "flour")
        await _answered(client, run.workflow_id, 2)
        fresh = await client.start_agent("scale", "sugar")
        assert (await client.result(fresh.workflow_id, timeout=TIME)).limit == "max_turns=1"
        entries = await client.transcript(run.workflow_id)
        await client.cancel(run.workflow_id)
    first, *others = before.requests
    asked, later = since.requests[:2], since.requests[2:]
    for request in (*others, *asked):
        assert (request.model, request.instructions, request.tools) == ("x", "Weigh.", first.tools)
    assert {(request.model, request.instructions) for request in later} == {("y", "Don't weigh.")}
    schemas = [request.tools[0].parameters["properties"].keys() for request in (first, later[0])]
    assert schemas == [{"what"}, {"thing", "unit"}]
    told = [part for entry in entries for part in entry.message.parts if isinstance(part, ToolResultPart)]
    assert [part.outcome for part in told] == ["ok", "error"]
    assert "the tool has changed since the run began" in str(told[1].content)


async def _answered(client: PerdureClient, workflow_id: str, count: int) -> None:
    """Wait until the run has answered so many messages, and waits for the next."""
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            said = [entry.message for entry in await client.transcript(workflow_id)]
            if sum(each.text.startswith("answer") for each in said) == count:
                return
            await asyncio.sleep(0.1)
