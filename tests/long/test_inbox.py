"""Who waits for people, where there are more runs than are shown, and where nobody answers for them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from perdure import ApprovalRule
from perdure.client import Inbox, PerdureClient
from perdure.connection import connect
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError
from tests.support.approval_app import make_app, turns
from tests.support.cli_project import CliProject
from tests.support.workers import worker

TIME = timedelta(seconds=30)
STATE = SearchAttributeKey.for_keyword("PerdureState")


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Client]:
    """A server where nothing else waits."""
    async with DevServer(tmp_path, port=0, ui_port=0) as server:
        yield await connect(address=server.address)


def names(inbox: Inbox) -> list[str]:
    return [run.workflow_id for run in inbox.runs]


async def all_of(client: PerdureClient, count: int) -> Inbox:
    """Return the inbox once it has so many runs: the server's list lags."""
    async with asyncio.timeout(TIME.total_seconds()):
        while len((found := await client.inbox()).runs) != count:
            await asyncio.sleep(0.1)
    return found


async def test_more_runs_than_are_shown(own: Client) -> None:
    async with worker(make_app(), own) as client:
        for name, group in (("oncall", "oncall"), ("a", "desk"), ("b", "desk"), ("c", "desk")):
            rules = [ApprovalRule(tool="look", group=group)]
            await client.start_agent("doer", turns([("look", {"number": 1})]), id=name, approvals=rules)
            await asyncio.sleep(0.01)  # they are listed by when they started, in milliseconds
        assert names(await all_of(client, 4)) == ["c", "b", "a", "oncall"]
        oldest = await client.inbox(limit=2)
        assert (names(oldest), oldest.left_out) == (["a", "oncall"], 2)
        mine = await client.inbox(group="oncall", limit=1)
        assert (names(mine), mine.left_out) == (["oncall"], 0)
        theirs = await client.inbox(group="desk", limit=2)
        assert (names(theirs), theirs.left_out) == (["b", "a"], 1)
        assert await client.inbox(kind="question") == Inbox()
        for name in ("oncall", "a", "b", "c"):
            await client.terminate(name, reason="over")


async def test_workflows_of_ones_own_without_a_worker(own: Client, tmp_path: Path) -> None:
    client = PerdureClient(own)
    for name, state in (("approval", "waiting_approval"), ("answer", "waiting_answer")):
        attributes = TypedSearchAttributes([SearchAttributePair(STATE, state)])
        await own.start_workflow("Theirs", id=name, task_queue="nobody", search_attributes=attributes)
    found = await all_of(client, 2)
    assert {(run.workflow_id, run.waits, run.is_answered) for run in found.runs} == {
        ("approval", (), False),
        ("answer", (), False),
    }
    assert names(await client.inbox(group="oncall")) == names(found)
    assert names(await client.inbox(kind="approval")) == ["approval"]
    with pytest.raises(InvalidInputError, match="no worker answers that could take it"):
        await client.approve("approval")
    with pytest.raises(InvalidInputError, match="waits for no approval"):
        await client.approve("answer")
    project = CliProject(tmp_path, {"TEMPORAL_ADDRESS": own.service_client.config.target_host})
    listed = project.run("approvals")
    assert [line.split()[-3:] for line in listed.stdout.splitlines()[1:]] == [["approval", "waiting", "approval"]]
    assert "have no worker that answers" in listed.stderr
    shown = project.run("inbox", "--limit", "1", "-o", "jsonl")
    assert len(shown.stdout.splitlines()) == 1
    assert "Not shown: 1 run, started later" in shown.stderr
    assert "no worker answers that knows for what" in project.run("approvals", "approval").stderr
    assert "no worker answers that knows for what" in project.run("show", "approval").stdout
