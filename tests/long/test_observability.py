"""What operators see of a worker: spans, metrics and log lines, and what they never see."""

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from temporalio.client import Client

from perdure import Limits
from perdure.client import PerdureClient
from perdure.devserver import DevServer
from perdure.errors import LimitExceeded
from tests.fakes.conversing import ConversingServer
from tests.fakes.otlp import OtlpReceiver
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.cli_project import CliProject
from tests.support.health import free_port

TIME = timedelta(seconds=40)
KEY = "sk-MARKED-KEY-0123456789"
SAID = ("MARKED-INPUT", "MARKED-ARGUMENT", "MARKED-RESULT", "MARKED-REPLY", "MARKED-INSTRUCTION", "MARKED-CONTEXT")
APP = '''
import logging, os
from perdure import Agent, App, ToolContext, tool

log = logging.getLogger("shop")

@tool(idempotent=True, max_attempts=3)
async def look(name: str, ctx: ToolContext) -> str:
    """Look something up."""
    log.info("looks, attempt %d", ctx.attempt)
    if ctx.attempt == 1:
        raise ValueError("refused " + os.environ["OPENAI_API_KEY"])
    return "MARKED-RESULT of " + name

@tool
def break_down() -> str:
    """Break down."""
    raise ValueError("broken")

shop = Agent(
    "shop", model="openai:gpt-5-mini", instructions="MARKED-INSTRUCTION", tools=[look, break_down], on_limit="fail"
)
app = App(agents=[shop])
'''


def _decide(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    if turn == 0:
        wanted = FakeCall("call_0", "look", json.dumps({"name": "MARKED-ARGUMENT"}))
        return FakeReply(calls=(wanted, FakeCall("call_1", "break_down", "{}")))
    return FakeReply(text="MARKED-REPLY")


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
    async with OtlpReceiver() as receiver, ConversingServer(_decide) as fake:
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
        worker = project.start(
            "worker", "--task-queue", queue, "--log-format", "json", "--metrics-address", str(port)
        )
        try:
            await asyncio.to_thread(worker.wait_for, "serves the Task Queue")
            client = PerdureClient(temporal, task_queue=queue)
            context = {"who": "MARKED-CONTEXT"}
            run = await client.start_agent("shop", "MARKED-INPUT", context=context, tenant="acme")
            assert (await client.result(run.workflow_id, timeout=TIME)).output == "MARKED-REPLY"
            short = await client.start_agent("shop", "MARKED-INPUT", limits=Limits(max_turns=1))
            with pytest.raises(LimitExceeded):
                await client.result(short.workflow_id, timeout=TIME)
            metrics = "" if content else await _scrape(port, "perdure_cache_hits_total")
            code, _ = await asyncio.to_thread(worker.stop)
            assert code == 0
        finally:
            project.kill_all()
    return Seen(receiver, metrics, worker.stderr, run.workflow_id)


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
    everything = seen.everything()
    assert [marked for marked in (*SAID, KEY, KEY[3:], "MARKED") if marked in everything] == []


async def test_content_is_there_for_those_who_want_it(server: DevServer, temporal: Client, tmp_path: Path) -> None:
    seen = await _work(server, temporal, tmp_path, content=True)
    spans = "".join(body.decode(errors="replace") for body in seen.receiver.bodies)
    assert [said for said in SAID[:5] if said not in spans] == []
    assert KEY not in seen.everything()
    chat = [span for span in seen.receiver.spans if span.name == "chat gpt-5-mini"][-1]
    asked = json.loads(chat.attributes["gen_ai.input.messages"])
    assert asked[0] == {"role": "user", "parts": [{"type": "text", "content": "MARKED-INPUT"}]}
    assert any(said not in seen.metrics + seen.log for said in SAID)


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


def test_log_lines_have_the_run_and_the_span(seen: Seen) -> None:
    lines = [json.loads(line) for line in seen.log.splitlines() if line.startswith("{")]
    mine = [line for line in lines if line["logger"] == "shop" and line["workflow_id"] == seen.workflow_id]
    assert [line["message"] for line in mine] == ["looks, attempt 1", "looks, attempt 2"]
    ids = {span.span_id: span for span in seen.receiver.spans}
    assert [ids[line["span_id"]].name for line in mine] == ["execute_tool look"] * 2
    assert {line["trace_id"] for line in mine} == {ids[mine[0]["span_id"]].trace_id}
    failed = [line for line in lines if "failed, attempt 1" in line["message"]]
    assert failed
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
    unheard = {"perdure_runs", "perdure_cache_misses_total", "temporal_workflow_task_execution_failed_total"}
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
