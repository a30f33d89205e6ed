"""Encryption: the server keeps no text, keys rotate under open runs, and the web UI decodes."""

import asyncio
import base64
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.service import RPCError
from temporalio.worker import Worker

from perdure._production import Address
from perdure.client import PerdureClient
from perdure.codec_server import CodecServer
from perdure.connection import connect
from perdure.contracts.steering import Session
from perdure.devserver import DevServer
from perdure.errors import EncryptionError, PerdureError
from perdure.settings import Settings
from perdure.storage.opening import data_converter, decoding, storage_folder
from tests.support.browser import Browser
from tests.support.programs import needs
from tests.support.secret_app import app, break_down, onlooker, settings, variable
from tests.support.workers import worker

TIME = timedelta(seconds=30)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[DevServer]:
    """A server that soon hands out again a workflow task that failed."""
    config = {"history.workflowTaskRetryMaxInterval": '"1s"'}
    folder = tmp_path_factory.mktemp("encrypted")
    async with DevServer(folder, port=0, ui_port=0, dynamic_config=config) as running:
        yield running


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key_id in ("one", "two"):
        monkeypatch.setenv(variable(key_id), base64.b64encode(key_id[:1].encode() * 32).decode())


@asynccontextmanager
async def working(server: DevServer, made: Settings, queue: str = "") -> AsyncGenerator[PerdureClient]:
    converter = data_converter(made)
    temporal = await connect(address=server.address, converter=converter, interceptors=decoding(converter))
    given = {"encryption": made.encryption, "storage": made.storage, "state_dir": made.state_dir}
    async with worker(app, temporal, queue=queue, **given) as client:
        yield client


def kept(server: DevServer, made: Settings) -> bytes:
    """Return all that the server, external storage and the blobs of tools have on disk."""
    folders = (server.state_dir, storage_folder(made), blobs(made))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def blobs(made: Settings) -> Path:
    return made.project_dir / made.state_dir / "blobs"


def is_in(text: str, data: bytes) -> bool:
    """Say whether a text is there, as it is or in base64."""
    raw = text.encode()
    coded = [base64.b64encode(raw[start:])[4:-4] for start in range(3)]
    return any(each in data for each in (raw, *coded))


async def talk(client: PerdureClient, mark: str) -> list[str]:
    """Say a mark in every way there is, and return what a client reads of it."""
    run = await client.start_agent("teller", mark, context={"note": mark})
    result = await client.result(run.workflow_id, timeout=TIME)
    refused = await client.start_agent("teller", f"refuse {mark}")
    with pytest.raises(PerdureError, match=mark):
        await client.result(refused.workflow_id, timeout=TIME)
    broken = await client.start_workflow("Breaking", [mark])
    with pytest.raises(PerdureError, match=mark):
        await client.result(broken.workflow_id, timeout=TIME)
    told = [str(result.output)]
    told += [repr(await client.show(each.workflow_id)) for each in (run, refused, broken)]
    told += [repr(await client.trace(each.workflow_id)) for each in (run, refused, broken)]
    return [*told, repr(await client.transcript(run.workflow_id)), await client.report(refused.workflow_id)]


async def test_marked_texts_are_nowhere_and_clients_read_them(server: DevServer, tmp_path: Path) -> None:
    made = settings(tmp_path, "one")
    plain = made.model_copy(update={"encryption": None})
    marks = {name: f"zebra-{name}-{uuid4().hex}" for name in ("hidden", "seen")}
    for mark, chosen in ((marks["hidden"], made), (marks["seen"], plain)):
        async with (
            working(server, chosen) as client,
            Worker(client.temporal, task_queue=f"{client.task_queue}-own", activities=[break_down]),
        ):
            assert all(mark in each for each in await talk(client, mark))
    data = kept(server, made)
    assert is_in(marks["seen"], data), "what is not encrypted is found so"
    assert b"encryption-key-id" in data
    assert any(storage_folder(made).rglob("*")), "large results are outside"
    assert all(mark.encode() in onlooker.seen for mark in marks.values()), "pictures are shown to the model"
    names = {path.name for path in blobs(made).rglob("*")}
    digests = {name: sha256(mark.encode()).hexdigest() for name, mark in marks.items()}
    assert (digests["seen"] in names, digests["hidden"] in names) == (True, False)
    assert not is_in(marks["hidden"], data)


async def test_keys_rotate_under_an_open_run(
    server: DevServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = f"q-{uuid4().hex[:8]}"
    async with working(server, settings(tmp_path, "one"), queue) as client:
        session = Session(idle_timeout=timedelta(hours=1))
        run = await client.start_agent("teller", "short one", session=session)
        await _until(lambda: _said(client, run.workflow_id, "short: short one"))
    async with working(server, settings(tmp_path, "two", "one"), queue) as client:
        await client.send(run.workflow_id, "short two")
        await _until(lambda: _said(client, run.workflow_id, "short: short two"))
    first = os.environ[variable("one")]
    monkeypatch.delenv(variable("one"))
    with caplog.at_level(logging.ERROR):
        async with working(server, settings(tmp_path, "two", "one"), queue) as client:
            sending = asyncio.create_task(client.send(run.workflow_id, "short three"))  # which wakes it up
            await _until(lambda: _failed_task(client, run.workflow_id, "the key 'one'"))
            with pytest.raises(EncryptionError, match="TEST_KEY_ONE isn't set here"):
                await client.transcript(run.workflow_id)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    assert "It needs the key 'one', and TEST_KEY_ONE isn't set here" in caplog.text
    monkeypatch.setenv(variable("one"), first)
    async with working(server, settings(tmp_path, "two", "one"), queue) as client:
        await _until(lambda: _sent(client, run.workflow_id, "short three"))
        await _until(lambda: _said(client, run.workflow_id, "short: short three"))
        await client.cancel(run.workflow_id)
        history = await client.temporal.get_workflow_handle(run.workflow_id).fetch_history()
    assert b"one" in (ids := _key_ids(history.events))
    assert b"two" in ids


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(TIME.total_seconds()):
        while not await is_so():
            await asyncio.sleep(0.1)


async def _sent(client: PerdureClient, workflow_id: str, text: str) -> bool:
    """Say whether a message was taken: none is while the run waits for its next workflow task."""
    try:
        await client.send(workflow_id, text, message_id=text)
    except RPCError:
        return False
    return True


async def _said(client: PerdureClient, workflow_id: str, text: str) -> bool:
    return any(text in repr(entry) for entry in await client.transcript(workflow_id))


async def _failed_task(client: PerdureClient, workflow_id: str, text: str) -> bool:
    events = (await client.temporal.get_workflow_handle(workflow_id).fetch_history()).events
    failed = [each for each in events if each.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
    return any(text in each.workflow_task_failed_event_attributes.failure.message for each in failed)


def _key_ids(events: Any) -> set[bytes]:
    text = "".join(str(event) for event in events)
    return {
        each for each in (b"one", b"two") if f'key: "encryption-key-id"\n      value: "{each.decode()}"' in text
    }


@needs("chromium")
async def test_the_web_ui_shows_decoded_payloads(server: DevServer, tmp_path: Path) -> None:
    made, mark = settings(tmp_path, "one"), f"zebra-{uuid4().hex}"
    assert server.ui_url is not None
    codec = CodecServer(data_converter(made), server.ui_url)
    async with (
        working(server, made) as client,
        codec.served(Address("127.0.0.1", 0)) as port,
        Browser() as browser,
    ):
        run = await client.start_agent("teller", f"short {mark}")
        await client.result(run.workflow_id, timeout=TIME)
        page = f"{server.ui_url}/namespaces/default/workflows/{run.workflow_id}/{run.run_id}/history"
        await browser.open(page)
        await browser.until("document.body.textContent.includes('Input')")
        assert not await browser.ask(f"document.body.textContent.includes('{mark}')")
        await browser.ask(
            f"localStorage.setItem('endpoint', JSON.stringify('http://127.0.0.1:{port}'));"
            "localStorage.setItem('overrideRemoteCodecConfiguration', 'true')"
        )
        await browser.open(page)
        await browser.until(f"document.body.textContent.includes('{mark}')")
        await browser.picture(tmp_path / "decoded.png")
    assert (tmp_path / "decoded.png").stat().st_size > 10_000
