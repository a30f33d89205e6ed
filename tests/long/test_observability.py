"""What operators see of a worker: spans, metrics and log lines, and what they never see."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from temporalio.client import Client

from perdure import Agent, App, Limits, tool
from perdure.client import PerdureClient
from perdure.devserver import DevServer
from perdure.errors import LimitExceeded
from perdure.testing import ScriptedModel, calls
from tests.fakes.conversing import ConversingServer
from tests.fakes.http import Connection, Request
from tests.fakes.openai_server import error
from tests.fakes.otlp import OtlpReceiver
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.cli_project import CliProject
from tests.support.health import free_port
from tests.support.workers import worker

TIME = timedelta(seconds=40)
KEY = "sk-MARKED-KEY-0123456789"
SAID = ("MARKED-INPUT", "MARKED-ARGUMENT", "MARKED-RESULT", "MARKED-REPLY", "MARKED-INSTRUCTION", "MARKED-CONTEXT")
FAILURES = ("refused MARKED-ARGUMENT", "overloaded by MARKED-INPUT", "undone by MARKED-ORDER")
"""What a tool, a vendor and a workflow of the user's own say when they fail."""
APP = '''
import logging, os
from temporalio import workflow
from perdure import Agent, App, ToolContext, tool

log = logging.getLogger("shop")

@tool(idempotent=True, max_attempts=3)
async def look(name: str, ctx: ToolContext) -> str:
    """Look something up."""
    log.info("looks, attempt %d", ctx.attempt)
    if ctx.attempt == 1:
        raise ValueError("refused " + name + " " + os.environ["OPENAI_API_KEY"])
    return "MARKED-RESULT of " + name

@tool
def break_down() -> str:
    """Break down."""
    raise ValueError("broken")

@workflow.defn
class Order:
    @workflow.init
    def __init__(self, text: str) -> None:
        raise ValueError("undone by " + text)

    @workflow.run
    async def run(self, text: str) -> None:
        pass

shop = Agent(
    "shop", model="openai:gpt-5-mini", instructions="MARKED-INSTRUCTION", tools=[look, break_down], on_limit="fail"
)
app = App(agents=[shop], workflows=[Order])
'''


@tool(needs_approval=True)
def pay() -> str:
    """Pay."""
    return "paid"


HELD = App(
    agents=[Agent("held", model="scripted:x", tools=[pay])],
    providers=[ScriptedModel([calls(("pay", {})), "paid"])],
)


@asynccontextmanager
async def _held(temporal: Client) -> AsyncGenerator[None]:
    """Hold a run open that waits for approval, on a worker that tells nothing."""
    async with worker(HELD, temporal) as client:
        run = await client.start_agent("held", "go")
        async with asyncio.timeout(TIME.total_seconds()):
            while not [each async for each in client.list(agent="held", state="waiting_approval")]:
                await asyncio.sleep(0.1)
        yield
        await client.cancel(run.workflow_id)


def _decide(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    if turn == 0:
        wanted = FakeCall("call_0", "look", json.dumps({"name": "MARKED-ARGUMENT"}))
        return FakeReply(calls=(wanted, FakeCall("call_1", "break_down", "{}")))
    return FakeReply(text="MARKED-REPLY")


class _BusyServer(ConversingServer):
    """Refuses the first request, and quotes it."""

    async def _answer(self, request: Request, connection: Connection) -> None:
        if self.requests[0] is not request:
            await super()._answer(request, connection)
            return
        said = request.json()["messages"][-1]["content"]
        await connection.answer_json(503, error(f"overloaded by {said}"))


@dataclass(frozen=True)
class Seen:
    """What was sent and written."""

    receiver: OtlpReceiver
    metrics: str
    log: str
    workflow_id: str

    def everything(self) -> str:
        return "\n".join(
            [*(body.decode(errors="replace") for body in self.receiver.bodies), self.metrics, self.log]
        )


async def _work(server: DevServer, temporal: Client, folder: Path, *, content: bool) -> Seen:
    """Run a worker of the command line, and on it a run that ends well and one that reaches its limit."""
    queue, port = f"q-{uuid4().hex[:8]}", free_port()
    async with OtlpReceiver() as receiver, _BusyServer(_decide) as fake, _held(temporal):
        environ = {
            **receiver.env,
            "OPENAI_BASE_URL": f"{fake.url}/v1",
            "OPENAI_API_KEY": KEY,
            "TEMPORAL_ADDRESS": server.address,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=MARKED-HEADER",
        }
        project = CliProject(folder, environ)
        project.app_file.write_text(APP)
        if content:
            file = folder / "pyproject.toml"
            file.write_text(file.read_text() + "\n[tool.perdure.telemetry]\ncontent = true\n")
        process = project.start(
            "worker", "--task-queue", queue, "--log-format", "json", "--metrics-address", str(port)
        )
        try:
            await asyncio.to_thread(process.wait_for, "serves the Task Queue")
            client = PerdureClient(temporal, task_queue=queue)
            context = {"who": "MARKED-CONTEXT"}
            run = await client.start_agent("shop", "MARKED-INPUT", context=context, tenant="acme")
            assert (await client.result(run.workflow_id, timeout=TIME)).output == "MARKED-REPLY"
            short = await client.start_agent("shop", "MARKED-INPUT", limits=Limits(max_turns=1))
            with pytest.raises(LimitExceeded):
                await client.result(short.workflow_id, timeout=TIME)
            broken = await client.start_workflow("Order", ["MARKED-ORDER"])
            await asyncio.to_thread(process.wait_for, "Failing workflow task")
            await client.terminate(broken.workflow_id, reason="seen")
            metrics = "" if content else await _scrape(port, "perdure_cache_hits_total")
            code, _ = await asyncio.to_thread(process.stop)
            assert code == 0
        finally:
            project.kill_all()
    return Seen(receiver, metrics, process.stderr, run.workflow_id)


async def _scrape(port: int, last: str) -> str:
    """Return the metrics, once there are those that are sampled."""
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        while last not in (metrics := (await http.get(f"http://127.0.0.1:{port}/metrics")).text):
            await asyncio.sleep(0.2)
    return metrics


@pytest.fixture(scope="module")
async def seen(server: DevServer, temporal: Client, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return await _work(server, temporal, tmp_path_factory.mktemp("plain"), content=False)


def test_no_secret_and_no_content_is_seen(seen: Seen) -> None:
    assert len(seen.receiver.spans) > 5
    told = [line for line in seen.everything().splitlines() if "MARKED" in line or KEY[3:] in line]
    assert told == []


async def test_content_is_there_for_those_who_want_it(server: DevServer, temporal: Client, tmp_path: Path) -> None:
    seen = await _work(server, temporal, tmp_path, content=True)
    spans = "".join(body.decode(errors="replace") for body in seen.receiver.bodies)
    assert [said for said in SAID[:5] if said not in spans] == []
    assert KEY not in seen.everything()
    chat = [span for span in seen.receiver.spans if span.name == "chat gpt-5-mini"][-1]
    asked = json.loads(chat.attributes["gen_ai.input.messages"])
    assert asked[0] == {"role": "user", "parts": [{"type": "text", "content": "MARKED-INPUT"}]}
    assert [failure for failure in FAILURES if failure not in seen.log] == []


def test_metrics_have_tokens_cost_errors_and_temporals_own(seen: Seen) -> None:
    wanted = (
        "gen_ai_client_token_usage_sum{",
        "gen_ai_client_operation_duration_count{",
        "perdure_cost_sum{",
        "perdure_tool_errors_total{",
        "perdure_runs_closed_total{",
        "perdure_limiter_circuit{",
        "perdure_cache_hits_total{",
        "temporal_worker_task_slots_available{",
    )
    assert [name for name in wanted if name not in seen.metrics] == [], seen.metrics
    lines = [
        line for line in seen.metrics.splitlines() if line.startswith("gen_ai_client_operation_duration_count")
    ]
    assert any('gen_ai_tool_name="look"' in line and 'error_type="ToolError"' in line for line in lines)
    chats = [line for line in lines if 'gen_ai_operation_name="chat"' in line]
    assert chats
    assert all('gen_ai_request_model="gpt-5-mini"' in line for line in chats)
    closed = [line for line in seen.metrics.splitlines() if line.startswith("perdure_runs_closed_total")]
    assert any('state="LimitExceeded"' in line for line in closed)


def test_open_runs_are_counted_by_state(seen: Seen) -> None:
    """The server's other runs count too."""
    counts = dict(re.findall(r'\nperdure_runs\{[^}]*state="(\w+)"[^}]*\} (\d+)', seen.metrics))
    assert int(counts["waiting_approval"]) >= 1
    assert counts.keys() >= {"working", "paused", "waiting_limit", "waiting_answer"}


def test_log_lines_have_the_run_and_the_span(seen: Seen) -> None:
    lines = [json.loads(line) for line in seen.log.splitlines() if line.startswith("{")]
    mine = [line for line in lines if line["logger"] == "shop" and line["workflow_id"] == seen.workflow_id]
    assert [line["message"] for line in mine] == ["looks, attempt 1", "looks, attempt 2"]
    ids = {span.span_id: span for span in seen.receiver.spans}
    assert [ids[line["span_id"]].name for line in mine] == ["execute_tool look"] * 2
    assert {line["trace_id"] for line in mine} == {ids[mine[0]["span_id"]].trace_id}
    failed = [line for line in lines if "failed, attempt 1" in line["message"]]
    assert {line["message"] for line in failed} == {
        "call_model failed, attempt 1: ModelCallError (kind=transient, status_code=503)",
        "call_tool failed, attempt 1: ToolError (tool=look, error=ValueError)",
    }
    assert {line["workflow_id"] for line in failed} <= {
        span.attributes.get("temporalWorkflowID") for span in ids.values()
    }


def test_spans_tell_the_cost_and_who_it_is_for(seen: Seen) -> None:
    root = next(span for span in seen.receiver.spans if span.attributes.get("perdure.tenant") == "acme")
    assert root.name == "invoke_agent shop"
    assert root.attributes["perdure.cost_usd"] > 0
    assert root.resource["service.name"] == "perdure"
    failed = [span for span in seen.receiver.spans if span.name == "invoke_agent shop" and span.error]
    assert [span.error for span in failed] == ["LimitExceeded"]


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(seen: Seen) -> None:
    """But for metrics of Temporal's server, of Prometheus itself, and of what has not happened in these runs."""
    docker = Path(__file__).parents[2] / "docker"
    dashboard = json.loads((docker / "grafana/dashboards/perdure.json").read_text())
    rules = yaml.safe_load((docker / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for rule in rules]
    metrics = {name for expr in asked for name in re.findall(r"\b(?:perdure|gen_ai|temporal)_\w+(?=[\[{)])", expr)}
    assert len(metrics) > 10
    unheard = {"perdure_cache_misses_total", "temporal_workflow_task_execution_failed_total"}
    labels = {
        "gen_ai_operation_name",
        "gen_ai_request_model",
        "gen_ai_token_type",
        "gen_ai_tool_name",
        "error_type",
    }
    assert [name for name in sorted(metrics - unheard - labels) if f"\n{name}{{" not in seen.metrics] == []
    assert [name for name in labels if f"{name}=" not in seen.metrics] == []
    for label in ("provider", "cache", "state", "worker_type"):
        assert re.search(rf"[{{,]{label}=", seen.metrics), label
