"""Ready-made tools in a run: of a real API, of an existing activity, and of files; with a server of Temporal.

The API is the server's own: its OpenAPI document has hundreds of operations, and comes with the wheel.
"""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from jsonschema import Draft202012Validator
from temporalio import activity
from temporalio.client import Client

from perdure import Agent, App
from perdure.contracts.messages import Message, ToolResultPart
from perdure.devserver import DevServer
from perdure.testing import ScriptedModel, calls
from perdure.tools import activity_tool, file_tools, openapi_tools
from tests.support.workers import worker

TIME = timedelta(seconds=60)


def http_url(server: DevServer) -> str:
    """Return where the server's HTTP API listens: at a port that it chose itself."""
    assert server._process is not None
    process = psutil.Process(server._process.pid)
    for connection in process.net_connections("inet"):
        url = f"http://127.0.0.1:{connection.laddr.port}"
        if connection.status == psutil.CONN_LISTEN and is_api(url):
            return url
    raise AssertionError("the server has no HTTP API")


def is_api(url: str) -> bool:
    try:
        return httpx.get(f"{url}/openapi.yaml", timeout=5).text.startswith("# Generated")
    except httpx.HTTPError:
        return False


@activity.defn
async def count_words(text: str) -> dict[str, Any]:
    """Count the words of a text."""
    activity.heartbeat("counting")
    return {"words": len(text.split()), "type": activity.info().activity_type}


def script(request: Any, messages: list[Message]) -> Any:
    """Do the calls that the input is JSON of, in one turn, and answer with their results as JSON."""
    if len(messages) == 1:
        return calls(*((name, arguments) for name, arguments in json.loads(messages[0].text)))
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return json.dumps([(part.outcome, getattr(part.content[0], "text", "")) for part in parts])


async def test_an_agent_uses_them_in_a_run(server: DevServer, temporal: Client, tmp_path: Path) -> None:
    url = await asyncio.to_thread(http_url, server)
    async with httpx.AsyncClient(timeout=20) as client:
        (tmp_path / "openapi.yaml").write_text((await client.get(f"{url}/openapi.yaml")).text)
    every = openapi_tools(tmp_path / "openapi.yaml", base_url=url)
    assert len(every) > 200
    assert len({each.name for each in every}) == len(every)
    for each in every:
        Draft202012Validator.check_schema(each.spec.parameters)
    wanted = ["GET /api/v1/system-info", "GET /api/v1/namespaces/{namespace}"]
    api = openapi_tools(tmp_path / "openapi.yaml", base_url=url, include=wanted)
    assert sorted(each.name for each in api) == ["DescribeNamespace", "GetSystemInfo"]
    (tmp_path / "note.txt").write_text("to go on existing")
    agent = Agent(
        "clerk",
        model="scripted:x",
        tools=[*api, activity_tool(count_words), *file_tools(tmp_path, read_only=True)],
    )
    asked = [
        ("GetSystemInfo", {}),
        ("DescribeNamespace", {"namespace": "default"}),
        ("DescribeNamespace", {"namespace": "no-such"}),
        ("count_words", {"text": "to go on existing"}),
        ("read_file", {"path": "note.txt"}),
        ("read_file", {"path": "../secret"}),
    ]
    async with worker(App(agents=[agent], providers=[ScriptedModel(script)]), temporal) as runs:
        run = await runs.start_agent("clerk", json.dumps(asked))
        told = json.loads((await runs.result(run.workflow_id, timeout=TIME)).output)
    outcomes, texts = zip(*told, strict=True)
    assert outcomes == ("ok", "ok", "error", "ok", "ok", "error")
    assert "serverVersion" in json.loads(texts[0])
    assert json.loads(texts[1])["namespaceInfo"]["name"] == "default"
    assert texts[2].startswith("HTTP 404 Not Found")
    assert json.loads(texts[3]) == {"words": 4, "type": "count_words"}
    assert texts[4] == "to go on existing"
    assert "outside of the root" in texts[5]
