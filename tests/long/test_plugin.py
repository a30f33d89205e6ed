"""An existing Temporal project adopts perdure by the plugin alone."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
)
from temporalio.worker import (
    ActivityInboundInterceptor,
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    Worker,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from perdure import Agent, App, ToolContext, tool
from perdure.client import PerdureClient
from perdure.contracts.calls import Verdict
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from perdure.errors import AgentBug
from perdure.plugin import PerdurePlugin, compose_converter, compose_runner
from perdure.settings import Settings
from perdure.testing import ScriptedModel, calls
from tests.support.own_workflows import Broken, Greeting, greet


async def test_the_plugin_is_all_it_takes(server: DevServer) -> None:
    app = App(agents=[Agent("helper", model="scripted:x")], providers=[ScriptedModel(["from perdure"])])
    queue = f"q-{uuid4().hex[:8]}"
    client = await Client.connect(server.address, plugins=[PerdurePlugin(app, Settings())])
    async with Worker(client, task_queue=queue, workflows=[Greeting, Broken], activities=[greet]):
        own = await client.execute_workflow(Greeting.run, "Ada", id=uuid4().hex, task_queue=queue)
        perdure = PerdureClient(client, task_queue=queue)
        run = await perdure.start_agent("helper", "go")
        result = await perdure.result(run.workflow_id, timeout=timedelta(seconds=20))
        broken = await perdure.start_workflow("Broken", [])
        with pytest.raises(AgentBug, match=r"KeyError: .*a defect"):
            await perdure.result(broken.workflow_id, timeout=timedelta(seconds=20))
    assert own == "Hello, Ada"
    assert isinstance(result, RunResult)
    assert result.output == "from perdure"


def test_a_default_converter_learns_pydantic_and_keeps_the_rest() -> None:
    given = replace(DataConverter.default, failure_converter_class=DefaultFailureConverterWithEncodedAttributes)
    composed = compose_converter(given)
    assert composed.payload_converter_class is PydanticPayloadConverter
    assert composed.failure_converter_class is DefaultFailureConverterWithEncodedAttributes


class _Own(PydanticPayloadConverter):
    pass


class _Other(DefaultPayloadConverter):
    """Writes texts in capitals."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return super().to_payloads([each.upper() if isinstance(each, str) else each for each in values])


def test_a_pydantic_converter_is_kept() -> None:
    given = replace(pydantic_data_converter, payload_converter_class=_Own)
    assert compose_converter(given) is given


def test_another_converter_keeps_what_is_its_own() -> None:
    composed = compose_converter(replace(DataConverter.default, payload_converter_class=_Other))
    assert compose_converter(composed) is composed, "a replayer composes once more"
    converter = composed.payload_converter
    verdict, hint = Verdict(accept=True, reason="fine"), list[Verdict]
    payloads = converter.to_payloads(["loud", verdict, [verdict], {"a": 1}, None])
    assert payloads[0].data == b'"LOUD"'
    found = converter.from_payloads(payloads, [str, Verdict, hint, dict, type(None)])  # pyright: ignore
    assert found == ["LOUD", verdict, [verdict], {"a": 1}, None]
    assert converter.from_payloads(payloads[:2]) == ["LOUD", {"accept": True, "reason": "fine"}]


class _Ours(SandboxedWorkflowRunner):
    pass


class _Audit(Interceptor):
    """Notes workflows and activities, in the order that they pass."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        self.seen.append(type(next).__name__)
        return next


async def test_several_workers_one_after_another_and_at_once(server: DevServer) -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def lifespan(_: App) -> AsyncGenerator[dict[str, Any]]:
        opened.append("open")
        yield {"desk": "a"}
        opened.append("closed")

    app = App(agents=[_asker], providers=[ScriptedModel(_SCRIPT)], workflows=[Greeting], lifespan=lifespan)
    client = await Client.connect(server.address, plugins=[PerdurePlugin(app, Settings())])
    queues = [f"q-{uuid4().hex[:8]}" for _ in range(2)]
    seen: list[str] = []
    ids: list[str] = []
    runner = _Ours(restrictions=SandboxRestrictions.default.with_passthrough_modules("tomllib"))
    for _ in range(2):
        first = Worker(
            client,
            task_queue=queues[0],
            workflows=[Greeting],
            activities=[greet],
            interceptors=[_Audit(seen)],
            workflow_runner=runner,
        )
        config = first.config(active_config=True)
        ran: Any = config.get("workflow_runner")
        assert isinstance(ran, _Ours)
        assert {"tomllib", "perdure.contracts"} <= ran.restrictions.passthrough_modules
        assert isinstance(next(iter(config.get("interceptors", []))), _Audit), "the project's own come first"
        async with first:
            async with Worker(client, task_queue=queues[1]):
                pass
            assert opened[-1] == "open", "the other still works"
            perdure = PerdureClient(client, task_queue=queues[0])
            run = await perdure.start_agent("asker", "go")
            result = await perdure.result(run.workflow_id, timeout=timedelta(seconds=20))
            assert result.output == "done"
            ids.append(run.workflow_id)
        assert opened[-1] == "closed"
    assert opened == ["open", "closed"] * 2
    assert seen, "and see calls"
    history = await client.get_workflow_handle(ids[0]).fetch_history()
    await Replayer(workflows=[Greeting], plugins=[PerdurePlugin(app, Settings())]).replay_workflow(history)
    assert opened == ["open", "closed"] * 2, "a replay opens nothing"


@tool(name="visit", idempotent=True)
async def _visit(context: ToolContext) -> str:
    """Use what the worker opened, and the network."""
    assert not context.http.is_closed
    return str(context.resources["desk"])


_SCRIPT = [calls(("visit", {})), "done"]
_asker = Agent("asker", model="scripted:x", tools=[_visit])


def test_a_runner_without_a_sandbox_is_kept() -> None:
    runner = UnsandboxedWorkflowRunner()
    assert compose_runner(runner) is runner
    assert isinstance(compose_runner(None), SandboxedWorkflowRunner)
