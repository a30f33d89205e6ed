"""A service of a user's own, with its own TracerProvider: `python -m tests.support.trace_own ADDRESS`.

Prints its spans as JSON: name, trace, span, parent.
"""

import asyncio
import json
import sys
from datetime import timedelta
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import Client
from temporalio.worker import Worker

from perdure import Agent, App, Limits, tool
from perdure.client import PerdureClient
from perdure.contracts.run import RunStatus
from perdure.plugin import PerdurePlugin
from perdure.settings import Settings
from perdure.testing import ScriptedModel, calls
from tests.support.own_workflows import Greeting, Steps, greet

TIME = timedelta(seconds=40)


@tool(idempotent=True)
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def serve(address: str) -> None:
    agents = [Agent(name, model="scripted:x") for name in ("echo", "worker")]
    agents.append(Agent("asker", model="two:x", tools=[add], limits=Limits(max_turns=1), on_limit="ask"))
    models = [ScriptedModel(["done"]), ScriptedModel([calls(("add", {"a": 1, "b": 2})), "done"], name="two")]
    app = App(agents=agents, tools=[add], workflows=[Steps], providers=models)
    queue = f"q-{uuid4().hex[:8]}"
    client = await Client.connect(address, plugins=[PerdurePlugin(app, Settings(task_queue=queue))])
    runs = PerdureClient(client, task_queue=queue)
    async with Worker(client, task_queue=queue, workflows=[Greeting], activities=[greet]):
        steps = await runs.start_workflow("Steps", ["go"])
        assert (await runs.result(steps.workflow_id, timeout=TIME))[2] == 42
        asking = await runs.start_agent("asker", "go")
        async with asyncio.timeout(TIME.total_seconds()):
            status = client.get_workflow_handle(asking.workflow_id)
            while (await status.query("perdure.status", result_type=RunStatus)).state != "waiting_limit":
                await asyncio.sleep(0.05)
        await runs.set_limits(asking.workflow_id, Limits(max_turns=5))
        await runs.result(asking.workflow_id, timeout=TIME)
        with trace.get_tracer("service").start_as_current_span("a request"):
            mapped = await runs.start_map("echo", ["a", "b"])
            await client.execute_workflow("Greeting", "Ada", id=uuid4().hex, task_queue=queue)
        await runs.result(mapped.workflow_id, timeout=TIME)


if __name__ == "__main__":
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    asyncio.run(serve(sys.argv[1]))
    for span in exporter.get_finished_spans():
        assert span.context is not None
        parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
        line = [span.name, f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent]
        print(json.dumps(line))
