"""Payloads in a bucket, with a real server: what runs refer to stays, and `perdure storage gc` takes the rest."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec, ScheduleState
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.devserver import DevServer
from perdure.storage.marking import mark
from perdure.storage.opening import close_storage
from perdure.testing import ScriptedModel
from tests.fakes.object_stores import S3Server
from tests.support.cli_project import CliProject
from tests.support.workers import worker

APP = App(agents=[Agent("echo", model="scripted:x")], providers=[ScriptedModel(lambda request, messages: "done")])
AWS = {
    "AWS_ACCESS_KEY_ID": "the-key",
    "AWS_SECRET_ACCESS_KEY": "the-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}
DAYS = 2 * 86400
LARGE = 100_000


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Server]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    async with S3Server() as running:
        yield running
        await close_storage()


@pytest.fixture
async def stored(server: DevServer, bucket: S3Server) -> AsyncIterator[PerdureClient]:
    temporal = await connect(address=server.address, converter=bucket.converter)
    async with worker(APP, temporal, storage=bucket.settings().storage) as client:
        yield client


def project_of(bucket: S3Server, server: DevServer, tmp_path: Any, name: str = "mine") -> CliProject:
    project = CliProject(tmp_path, {"TEMPORAL_ADDRESS": server.address, **AWS})
    table = {"driver": "s3", "bucket": name, "endpoint_url": bucket.url, "region": "eu-central-1"}
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write(f"\n[tool.perdure.storage]\n{lines}\n")
    return project


async def test_a_bucket_is_collected(
    stored: PerdureClient, bucket: S3Server, server: DevServer, tmp_path: Any
) -> None:
    run = await stored.start_agent("echo", "x" * LARGE)
    await stored.result(run.workflow_id, timeout=timedelta(seconds=60))
    dead = f"v0/ns/default/wt/W/wi/gone/ri/r/d/sha256/{'0' * 64}"
    bucket.write(dead, b"nobody's")
    for name in bucket.objects:
        bucket.age(name, DAYS)
    while not (alive := (await mark(stored.temporal)).names & set(bucket.objects)):
        await asyncio.sleep(0.1)  # visibility lags
    unused = len(bucket.objects) - len(alive)  # the answers to queries, too
    project = project_of(bucket, server, tmp_path)

    async def told(*arguments: str) -> Any:
        return json.loads((await asyncio.to_thread(project.run, "storage", "gc", "-o", "json", *arguments)).stdout)

    dry = await told("--dry-run")
    assert (dry["kept"], dry["deleted"], dry["is_dry"]) == (len(alive), unused, True)
    assert dead in bucket.objects
    assert await told() == {**dry, "is_dry": False}
    assert set(bucket.objects) == alive
    [first, *_] = await stored.transcript(run.workflow_id)
    assert first.message.text == "x" * LARGE


async def test_what_goes_wrong_is_one_line(bucket: S3Server, server: DevServer, tmp_path: Any) -> None:
    project = project_of(bucket, server, tmp_path, "other")
    done = await asyncio.to_thread(project.run, "storage", "gc", code=4)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "The bucket 'other' can't be listed: " in line
    done = await asyncio.to_thread(project.run, "storage", "gc", "--older-than", "5", code=2)
    assert "has to be 60 or more for a bucket" in done.stderr


@activity.defn
async def stumble(letter: str) -> None:
    """Leave something behind in a heartbeat, and in a failure, and try again much later."""
    activity.heartbeat(letter * LARGE)
    raise ApplicationError("later", letter * LARGE + "!", next_retry_delay=timedelta(hours=1))


@workflow.defn
class Stumbling:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(stumble, "w", start_to_close_timeout=timedelta(hours=1))


async def test_what_activities_have_pending_is_referred_to(server: DevServer, bucket: S3Server) -> None:
    temporal = await connect(address=server.address, converter=bucket.converter)
    async with Worker(
        temporal,
        task_queue="stumbling",
        workflows=[Stumbling],
        activities=[stumble],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        run = await temporal.start_workflow(Stumbling.run, id="stumbling", task_queue="stumbling")
        alone = await temporal.start_activity(
            stumble,
            "a",
            id="stumbling",
            task_queue="stumbling",
            start_to_close_timeout=timedelta(hours=1),
            retry_policy=RetryPolicy(maximum_attempts=2),
        )
        end = time.monotonic() + 30
        while len(bucket.objects) < 4 or not set(bucket.objects) <= (await mark(temporal)).names:
            assert time.monotonic() < end, sorted(set(bucket.objects) - (await mark(temporal)).names)
            await asyncio.sleep(0.1)
        await run.terminate()
        await alone.terminate()


@workflow.defn
class Reporting:
    @workflow.run
    async def run(self) -> str:
        return "r" * LARGE


async def test_the_last_result_of_a_schedule_is_referred_to(server: DevServer, bucket: S3Server) -> None:
    """The next run gets it, when the one that had it is long gone; it could not even begin without."""
    temporal = await connect(address=server.address, converter=bucket.converter)
    action = ScheduleActionStartWorkflow(Reporting.run, id="reporting", task_queue="reporting")
    schedule = Schedule(action=action, spec=ScheduleSpec(), state=ScheduleState(paused=True))
    async with Worker(
        temporal,
        task_queue="reporting",
        workflows=[Reporting],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        handle = await temporal.create_schedule("reporting", schedule)
        await handle.trigger()
        end = time.monotonic() + 30
        while not bucket.objects or not {name[-64:] for name in bucket.objects} <= (await mark(temporal)).digests:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        await handle.delete()
