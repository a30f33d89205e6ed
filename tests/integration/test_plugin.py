"""An existing Temporal project adopts perdure by the plugin alone."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
)
from temporalio.worker import Worker

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from perdure.errors import AgentBug, SettingsError
from perdure.plugin import PerdurePlugin, compose_converter
from perdure.settings import Settings
from perdure.testing import ScriptedModel
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
    pass


def test_a_pydantic_converter_is_kept() -> None:
    given = replace(pydantic_data_converter, payload_converter_class=_Own)
    assert compose_converter(given) is given


def test_any_other_converter_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match="make it a subclass"):
        compose_converter(replace(DataConverter.default, payload_converter_class=_Other))
