"""Large inputs and results: with external storage they work; without, there is a word for it and no run hangs."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, tool
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.messages import ImagePart, Message
from perdure.devserver import DevServer
from perdure.errors import PayloadTooLargeError, StorageError
from perdure.settings import Settings, StorageTable
from perdure.storage.collecting import sweep
from perdure.storage.local import LocalPlace, LocalStorageDriver
from perdure.storage.marking import Marks, mark
from perdure.storage.opening import data_converter, storage_folder
from perdure.testing import ScriptedModel, calls
from tests.support.browser import Browser
from tests.support.cli_project import CliProject
from tests.support.programs import needs
from tests.support.workers import worker

MB = 1_000_000
TIME = timedelta(seconds=60)
TABLE = StorageTable(driver="local")


@tool(idempotent=True, max_result_bytes=6 * MB)
async def dump(size: int) -> str:
    """Return a text of that size."""
    return "y" * size


@tool(idempotent=True)
async def picture(size: int) -> ImagePart:
    """Return a picture in its URL."""
    return ImagePart(url="data:image/png;base64," + "A" * size)


def script(request: Any, messages: list[Message]) -> Any:
    """Do what the first words say, then tell how much is there."""
    if messages[-1].role == "user":
        words = messages[0].text[:100].split()
        return calls((words[0], {"size": int(words[1])})) if words[0] in ("dump", "picture") else "no work"
    sizes = [len(message.model_dump_json()) for message in messages]
    return f"{max(sizes)} in one of {len(messages)} messages"


APP = App(agents=[Agent("big", model="scripted:x", tools=[dump, picture])], providers=[ScriptedModel(script)])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(project_dir=tmp_path_factory.mktemp("large"), storage=TABLE)


@pytest.fixture(scope="module")
async def stored(server: DevServer, settings: Settings) -> AsyncIterator[PerdureClient]:
    """A client and a worker with external storage, and a cache that holds nothing: all is looked up."""
    temporal = await connect(address=server.address, converter=data_converter(settings))
    values: dict[str, Any] = {"storage": TABLE, "project_dir": settings.project_dir, "message_cache_bytes": 0}
    async with worker(APP, temporal, **values) as client:
        yield client


def folder(settings: Settings) -> LocalStorageDriver:
    return LocalStorageDriver(storage_folder(settings), max_bytes=TABLE.max_bytes)


async def test_an_input_of_10_mb_and_a_result_of_5(
    stored: PerdureClient, settings: Settings, temporal: Client
) -> None:
    run = await stored.start_agent("big", "dump 5000000 " + "x" * 10 * MB)
    result = await stored.result(run.workflow_id, timeout=TIME)
    entries = await stored.transcript(run.workflow_id)
    details = await stored.show(run.workflow_id)
    history = await stored.temporal.get_workflow_handle(run.workflow_id).fetch_history()
    assert result.output.endswith("in one of 3 messages")
    assert int(result.output.split()[0]) > 10 * MB
    assert [len(entry.message.model_dump_json()) > 4.9 * MB for entry in entries] == [True, False, True, False]
    assert len(details.input) > 10 * MB
    assert sum(event.ByteSize() for event in history.events) < 50_000, "the history holds references"
    assert sum(file.stat().st_size for file in folder(settings).all_files()) > 15 * MB
    with pytest.raises(StorageError, match=r"\[tool.perdure.storage\]"):
        await PerdureClient(temporal).transcript(run.workflow_id)
    with pytest.raises(StorageError, match="isn't configured here"):
        await PerdureClient(temporal).show(run.workflow_id)


async def test_a_result_beyond_its_own_bound_is_cut_with_storage_too(stored: PerdureClient) -> None:
    run = await stored.start_agent("big", "dump 7000000")
    result = await stored.result(run.workflow_id, timeout=TIME)
    entries = await stored.transcript(run.workflow_id)
    assert "6000000 of 7000000 bytes shown" in entries[2].message.model_dump_json()
    assert result.output.startswith("6000")


async def test_more_than_the_bound_is_refused(stored: PerdureClient) -> None:
    with pytest.raises(PayloadTooLargeError, match="more than 50000000"):
        await stored.start_agent("big", "x" * 51 * MB)


async def test_without_storage_there_is_a_word_and_the_run_goes_on(temporal: Client, tmp_path: Path) -> None:
    async with worker(APP, temporal, project_dir=tmp_path) as client:
        with pytest.raises(PayloadTooLargeError, match=r"more than 1500000: .*\[tool.perdure.storage\]"):
            await client.start_agent("big", "x" * 10 * MB)
        run = await client.start_agent("big", "dump 5000000")
        result = await client.result(run.workflow_id, timeout=TIME)
        cut = (await client.transcript(run.workflow_id))[2].message.model_dump_json()
        run = await client.start_agent("big", "picture 5000000")
        await client.result(run.workflow_id, timeout=TIME)
        refused = (await client.transcript(run.workflow_id))[2].message
        with pytest.raises(PayloadTooLargeError, match=r"input of Own is too large for Temporal .*pass its name"):
            await client.start_workflow("Own", ["x" * 3 * MB])
    assert result.output.startswith("1048")
    assert "1048576 of 5000000 bytes shown" in cut
    text = refused.model_dump_json()
    assert "the result of picture was not kept: it takes 5000" in text
    assert "more than 1900000" in text
    assert "put_blob" in text
    assert "[tool.perdure.storage]" in text


async def test_what_no_run_refers_to_is_collected(stored: PerdureClient, settings: Settings) -> None:
    run = await stored.start_agent("big", "dump 100000 " + "x" * 100_000)
    await stored.result(run.workflow_id, timeout=TIME)
    driver, namespace = folder(settings), stored.temporal.namespace
    place = LocalPlace(driver, namespace)
    while True:  # visibility lags
        marks = await mark(stored.temporal)
        refers = [file for file in driver.files(namespace) if file.name in marks.names]
        if len([file for file in refers if file.stat().st_size < 2 * MB]) >= 2:
            break
    dead = driver.path(namespace, "0" * 64)
    dead.parent.mkdir(parents=True, exist_ok=True)
    dead.write_bytes(b"nobody's")
    young = await sweep(place, marks, before=time.time() - 3600, is_dry=False)
    assert young.deleted == 0
    assert young.young >= 1
    done = await sweep(place, marks, before=time.time(), is_dry=False)
    assert done.kept == len(refers)
    assert not dead.exists()
    entries = await stored.transcript(run.workflow_id)
    assert "y" * 1000 in entries[2].message.model_dump_json()
    other = await sweep(LocalPlace(driver, "other"), Marks(), before=time.time(), is_dry=False)
    assert other.deleted == 0


async def test_the_command_line_opens_such_a_run(
    stored: PerdureClient, settings: Settings, server: DevServer
) -> None:
    environ = {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": stored.task_queue}
    project = CliProject(settings.project_dir, environ)
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write('\n[tool.perdure.storage]\ndriver = "local"\n')
    run = await stored.start_agent("big", "dump 3000000 " + "x" * 3 * MB)
    await stored.result(run.workflow_id, timeout=TIME)

    async def out(*arguments: str) -> str:
        return (await asyncio.to_thread(project.run, *arguments)).stdout

    assert "completed" in await out("show", run.workflow_id)
    assert len(await out("transcript", run.workflow_id, "-o", "jsonl")) > 6 * MB
    status = json.loads(await out("storage", "status", "-o", "json"))
    assert (status["driver"], status["threshold_bytes"]) == ("local", 32768)
    assert status["size_bytes"] > 6 * MB
    told = json.loads(await out("storage", "gc", "-o", "json"))
    assert (told["deleted"], told["is_dry"]) == (0, False), "all of it is young"
    assert told["runs"] >= 1


@needs("chromium")
async def test_the_web_ui_opens_such_a_run(stored: PerdureClient, server: DevServer) -> None:
    """It shows the reference in place of what is stored, how large that is, and all else as ever."""
    run = await stored.start_agent("big", "dump 100000 " + "x" * 100_000)
    await stored.result(run.workflow_id, timeout=TIME)
    page = f"{server.ui_url}/namespaces/default/workflows/{run.workflow_id}/{run.run_id}"
    async with Browser(height=2000) as browser:
        await browser.open(f"{page}/history")
        await browser.until("document.body.textContent.includes('perdure.local')")
        await browser.until("document.body.textContent.includes('in one of 3 messages')")
        text: str = await browser.ask("document.body.textContent")
        assert "x" * 200 not in text, "all but the beginning, which is in the run's summary"
        assert re.search(r"External Payloads\s*2\b", await browser.ask("document.body.innerText"))
        assert [each for each in browser.errors if "net::" not in each] == [], "but for fonts from elsewhere"
        await browser.open(f"{page}/timeline")
        await browser.until("document.body.textContent.includes('dump(size=100000)')")
