"""The reference servers of the protocol's authors, from the npm registry; skipped where there is no node."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perdure import MCPServer
from perdure.contracts.messages import ImagePart
from perdure.testing import ScriptedModel
from tests.activities.mcp_rig import Runs, make_runs
from tests.support.health import free_port
from tests.support.npm_servers import MODULES, PACKAGES, install
from tests.support.programs import needs

pytestmark = needs("node", "npm")


@pytest.fixture(scope="module")
def installed() -> Path:
    """Install the packages, once for this machine."""
    if problem := install():
        pytest.skip(f"npm can't install the servers: {problem}")
    return MODULES


@pytest.fixture(scope="module")
async def runs(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runs]:
    root = tmp_path_factory.mktemp("files")
    (root / "tides.txt").write_text("High water at noon.")
    everything, files = ((installed / package / "dist" / "index.js") for package in PACKAGES)
    servers = [
        MCPServer.stdio("all", "node", args=[str(everything)], resources=True, prompts=True, trusted=True),
        MCPServer.stdio("files", "node", args=[str(files), str(root)], trusted=True, trust_annotations=True),
    ]
    made = make_runs(root, ScriptedModel(["done"]), *servers)
    await made.start()
    yield made
    await made.rig.pool.aclose()
    await made.rig.aclose()
    await made.rig.host.http.aclose()


async def test_their_lists(runs: Runs) -> None:
    assert {"all__echo", "all__list_resources", "all__get_prompt", "files__read_text_file"} <= set(runs.names)
    assert runs.spec is not None
    read, write = runs.spec.tool("files__read_text_file"), runs.spec.tool("files__write_file")
    assert read is not None
    assert write is not None
    assert (read.read_only, write.read_only) == (True, False), "as its annotations say"


async def test_everything(runs: Runs) -> None:
    assert await runs.call("all__echo", message="hello") == ("ok", "Echo: hello")
    _, parts = await runs.content("all__get-tiny-image")
    assert any(isinstance(each, ImagePart) for each in parts)
    outcome, told = await runs.call("all__get-structured-content", location="New York")
    assert outcome == "ok"
    assert "temperature" in told
    outcome, told = await runs.call("all__get-resource-reference", resourceType="Text", resourceId=1)
    assert outcome == "ok"
    assert "[demo://resource/dynamic/text/1]" in told
    assert (await runs.call("all__echo"))[0] == "error"


async def test_resources_and_prompts(runs: Runs) -> None:
    outcome, listed = await runs.call("all__list_resources")
    assert outcome == "ok"
    uri = next(line for line in listed.splitlines() if line.startswith("demo://")).partition(" ")[0]
    assert (await runs.call("all__read_resource", uri=uri))[0] == "ok"
    outcome, told = await runs.call("all__get_prompt", name="simple-prompt")
    assert (outcome, told.startswith("[user] ")) == ("ok", True)


async def test_files_stay_in_their_folder(runs: Runs, tmp_path: Path) -> None:
    root = runs.rig.pool.folder
    assert await runs.call("files__read_text_file", path=str(root / "tides.txt")) == ("ok", "High water at noon.")
    outcome, told = await runs.call("files__read_text_file", path="/etc/passwd")
    assert outcome == "error"
    assert "access denied" in told.lower()


async def test_everything_over_http_and_a_restart(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    server = MCPServer.http("all", f"http://127.0.0.1:{port}/mcp", resources=True, prompts=True, trusted=True)
    runs = make_runs(tmp_path, ScriptedModel(["done"]), server)
    async with _over_http(installed, port):
        await runs.start()
        assert await runs.call("all__echo", message="hello") == ("ok", "Echo: hello")
        outcome, listed = await runs.call("all__list_resources")
        assert (outcome, "demo://" in listed) == ("ok", True)
        outcome, told = await runs.call("all__get_prompt", name="simple-prompt")
        assert (outcome, told.startswith("[user] ")) == ("ok", True)
    async with _over_http(installed, port):
        assert await runs.call("all__echo", message="again") == ("ok", "Echo: again")
    await runs.rig.pool.aclose()
    await runs.rig.aclose()
    await runs.rig.host.http.aclose()


@asynccontextmanager
async def _over_http(installed: Path, port: int) -> AsyncGenerator[None]:
    """Run the server until the end of the block; then kill it."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(installed / PACKAGES[0] / "dist" / "index.js"),
        "streamableHttp",
        env={**os.environ, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while not await _listens(port):
                assert process.returncode is None, "the server ended"
                await asyncio.sleep(0.1)
        yield
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
