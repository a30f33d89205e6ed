"""docker/prometheus, as it is but for hosts and times, in a Prometheus that scrapes a real worker and server."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
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

from perdure.client import PerdureClient
from perdure.devserver import DevServer
from tests.containers.files import DOCKER, compose_services, load
from tests.fakes.conversing import ConversingServer
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.cli_project import CliProject, Running
from tests.support.health import free_port
from tests.support.programs import find, needs

pytestmark = needs("prometheus")

SECONDS = 40
TIME = timedelta(seconds=SECONDS)
UNSEEN = {"Failed model calls a minute"}
"""Panels of what doesn't happen here."""
APP = '''
from perdure import Agent, App, tool

@tool
def break_down() -> str:
    """Break down."""
    raise ValueError("broken")

app = App(agents=[Agent("shop", model="openai:gpt-5-mini", tools=[break_down])])
'''


def _decide(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    return FakeReply(text="done") if turn else FakeReply(calls=(FakeCall("call_0", "break_down", "{}"),))


@dataclass
class Prometheus:
    """A Prometheus that runs, and what it scrapes."""

    http: httpx.AsyncClient
    worker: Running

    async def ask(self, path: str, **params: str) -> Any:
        answer = (await self.http.get(f"/api/v1/{path}", params=params)).json()
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    async def query(self, expr: str) -> list[dict[str, Any]]:
        return (await self.ask("query", query=expr.replace("$__rate_interval", "1m")))["result"]

    async def until(self, expr: str) -> list[dict[str, Any]]:
        """Wait for an expression to have a value."""
        async with asyncio.timeout(SECONDS):
            while not (found := await self.query(expr)):
                await asyncio.sleep(0.2)
        return found


def write_config(folder: Path, *, worker: int, temporal: int, nobody: int) -> None:
    """Write docker/prometheus with the ports of this machine, and a second in place of fifteen."""
    config = load("prometheus/prometheus.yml")
    config["global"] = dict.fromkeys(config["global"], "1s")
    ports = {"perdure-worker": worker, "temporal": temporal, "otel-collector": nobody}
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)  # it asks the DNS for the workers, which compose has and a test has not
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "alerts.yml").write_bytes((DOCKER / "prometheus/alerts.yml").read_bytes())


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start it by the command of the compose file."""
    places = {"/etc/prometheus": str(folder), "=/prometheus": f"={folder / 'data'}"}
    arguments: list[str] = compose_services()["prometheus"]["command"]
    for there, here in places.items():
        arguments = [each.replace(there, here) for each in arguments]
    program = find("prometheus")
    assert program
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stderr=log)


@pytest.fixture
async def prometheus(server: DevServer, temporal: Client, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes a worker on which runs went well, and a workflow's tasks fail."""
    async with ConversingServer(_decide) as fake, _scraping(server, temporal, tmp_path, fake.env) as running:
        yield running


@asynccontextmanager
async def _scraping(
    server: DevServer, temporal: Client, folder: Path, environ: dict[str, str]
) -> AsyncGenerator[Prometheus]:
    at, metrics, queue = free_port(), free_port(), f"q-{uuid4().hex[:8]}"
    told = re.search(r"Metrics:\s*http://[^:]+:(\d+)", server.log_file.read_text())
    assert told, "the server says where its own metrics are"
    write_config(folder, worker=metrics, temporal=int(told[1]), nobody=free_port())
    project = CliProject(folder, {"TEMPORAL_ADDRESS": server.address, **environ})
    project.app_file.write_text(APP)
    worker = project.start("worker", "--task-queue", queue, "--metrics-address", str(metrics))
    process = start(folder, at)
    try:
        await asyncio.to_thread(worker.wait_for, "serves the Task Queue")
        client = PerdureClient(temporal, task_queue=queue)
        await temporal.start_workflow("Unknown", id=f"unknown-{queue}", task_queue=queue)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{at}", timeout=10) as http:
            running = Prometheus(http, worker)
            await _until_ready(http)
            await running.until('up{job="perdure-worker"} == 1')
            for number in range(3):  # a rate is that of a counter which was there before
                run = await client.start_agent("shop", f"go {number}")
                await client.result(run.workflow_id, timeout=TIME)
                await asyncio.sleep(1.5)
            yield running
    finally:
        process.terminate()
        process.wait()
        project.kill_all()
        await temporal.get_workflow_handle(f"unknown-{queue}").terminate()


async def _until_ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                if (await http.get("/-/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def test_scrapes_dashboard_and_alerts(prometheus: Prometheus) -> None:
    targets = {each["labels"]["job"]: each for each in (await prometheus.ask("targets"))["activeTargets"]}
    health = {job: (each["health"], each["lastError"]) for job, each in targets.items() if job != "otel-collector"}
    assert health == {"perdure-worker": ("up", ""), "temporal": ("up", "")}
    await _the_dashboard(prometheus)
    await _the_alerts(prometheus)


async def _the_dashboard(prometheus: Prometheus) -> None:
    """Every panel's expression is one that Prometheus understands, and has values but where nothing happened."""
    dashboard = json.loads((DOCKER / "grafana/dashboards/perdure.json").read_text())
    await prometheus.until("perdure_runs")
    await prometheus.until("rate(perdure_cache_hits_total[1m])")
    empty: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            if not await prometheus.query(target["expr"]):
                empty.add(panel["title"])
    assert empty - UNSEEN == set()
    assert await prometheus.query('sum(up{job="perdure-worker"}) == 1')


async def _the_alerts(prometheus: Prometheus) -> None:
    """All are evaluated without an error; that of failing tasks waits for its time, as does NoWorker at last."""
    await prometheus.until('ALERTS{alertname="WorkflowTasksFail", workflow_type="Unknown"}')
    (group,) = (await prometheus.ask("rules"))["groups"]
    assert {rule["name"]: (rule["health"], rule.get("lastError")) for rule in group["rules"]} == {
        rule["alert"]: ("ok", None) for rule in load("prometheus/alerts.yml")["groups"][0]["rules"]
    }
    assert await prometheus.query('ALERTS{alertname!="WorkflowTasksFail"}') == []
    await asyncio.to_thread(prometheus.worker.stop)
    (alert,) = await prometheus.until('ALERTS{alertname="NoWorker"}')
    assert alert["metric"]["alertstate"] == "pending"
