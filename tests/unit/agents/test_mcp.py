"""Declaring MCP servers: in Python, and in the shape of other clients' configuration."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import Agent, App, MCPServer
from perdure.agents.approvals import pin, read_rules
from perdure.contracts.spec import McpSource, ToolSpec
from perdure.contracts.waits import ApprovalRule
from perdure.errors import DuplicateNameError, InvalidNameError, InvalidToolError, SettingsError
from perdure.mcp.pool import Pool, servers_of
from perdure.settings import Settings
from perdure.wiring import make_parts

TABLE = """
[tool.perdure.mcp.files]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-filesystem", "."]
env = { LEVEL = "${LEVEL:-info}" }
timeout_seconds = 5

[tool.perdure.mcp.web]
type = "http"
url = "https://example.com/mcp"
headers = { Authorization = "Bearer ${TOKEN}" }
"""


def settings(folder: Path, text: str) -> Settings:
    (folder / "pyproject.toml").write_text(text)
    return Settings.resolve(start=folder, environ={}).settings


def test_a_configuration_can_be_pasted(tmp_path: Path) -> None:
    found = settings(tmp_path, TABLE).mcp
    assert found["files"] == MCPServer.stdio(
        "files",
        "npx",
        args=["-y", "@modelcontextprotocol/server-filesystem", "."],
        env={"LEVEL": "${LEVEL:-info}"},
        timeout=timedelta(seconds=5),
    )
    assert found["web"].headers == {"Authorization": "Bearer ${TOKEN}"}


def test_no_secret_is_shown() -> None:
    server = MCPServer.stdio("a", "x", args=["--key=hunter2"], env={"KEY": "hunter2"})
    other = MCPServer.http("a", "https://me:hunter2@example.com", headers={"X-Key": "hunter2"})
    assert "hunter2" not in repr(server) + repr(other)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, "needs either command or url"),
        ({"command": "x", "url": "http://y"}, "needs either command or url"),
        ({"comand": "x"}, "there is no option 'comand'. Did you mean 'command'?"),
        ({"command": "x", "headers": {"a": "b"}}, "headers go with url"),
        ({"url": "http://y", "env": {"a": "b"}}, "go with command"),
        ({"url": "ftp://y"}, "should be an http"),
        ({"url": "http://y", "type": "sse"}, "speaks 'sse', which perdure doesn't"),
        ({"command": "x", "args": "y"}, "args"),
        ({"command": "x", "env": {"KEY": 5}}, "env.KEY"),
        ({"command": "x", "timeout_seconds": 0}, "timeout_seconds should be more than 0"),
        ({"command": "x", "open_timeout_seconds": 60}, "at most 45"),
        ({"command": "x", "prefix": "a b"}, "prefix should be letters"),
        ({"command": "x", "rename": {"a": "c", "b": "c"}}, "the same name twice"),
    ],
)
def test_mistakes_are_told_without_values(table: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidToolError, match="MCP server 'files'") as caught:
        MCPServer.read("files", table)
    assert fault in caught.value.message
    with pytest.raises(SettingsError, match="files"):
        settings(tmp_path, "[tool.perdure.mcp]\nfiles = " + _toml(table))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return repr(value).replace("'", '"')


def test_agents_name_servers_or_bring_them() -> None:
    mine = MCPServer.stdio("mine", "x")
    agent = Agent("a", model="offline:reader", mcp_servers=[mine, "files"])
    app = App(agents=[agent], mcp_servers=[MCPServer.stdio("files", "y")])
    assert agent.mcp_names == ("mine", "files")
    assert set(app.registry.mcp_servers) == {"mine", "files"}
    with pytest.raises(DuplicateNameError, match="two MCP servers named 'mine'"):
        Agent("a", model="offline:reader", mcp_servers=[mine, "mine"])
    with pytest.raises(DuplicateNameError, match="two different MCP servers named 'mine'"):
        App(agents=[agent], mcp_servers=[MCPServer.stdio("mine", "z")])


def test_a_server_that_there_is_not(tmp_path: Path) -> None:
    app = App(agents=[Agent("a", model="offline:reader", mcp_servers=["flies"])])
    with pytest.raises(SettingsError, match="there is no MCP server 'flies'") as caught:
        make_parts(app, settings(tmp_path, TABLE))
    assert "Did you mean 'files'" in caught.value.message
    assert "[tool.perdure.mcp.flies]" in caught.value.message


def test_the_settings_go_over_the_app() -> None:
    declared, configured = MCPServer.stdio("files", "x"), MCPServer.http("files", "http://y")
    assert servers_of({"files": declared}, {"files": configured}, {"files": "a"}) == {"files": configured}


def test_names_are_checked() -> None:
    with pytest.raises((InvalidToolError, InvalidNameError), match="can't be used"):
        MCPServer.stdio("no spaces", "x")


def spec(*, is_accepted: bool) -> ToolSpec:
    source = McpSource(server="files", tool="read", digest="abc", is_accepted=is_accepted)
    return ToolSpec(name="files__read", parameters={}, mcp=source)


def test_no_rule_allows_what_nobody_accepted() -> None:
    allow = read_rules([ApprovalRule(tool="files__*", decision="allow")])
    deny = read_rules([ApprovalRule(tool="files__*", decision="deny")])
    assert pin(spec(is_accepted=True), allow).approval is None
    asked = pin(spec(is_accepted=False), allow).approval
    assert asked == ApprovalRule(tool="files__read")
    denied = pin(spec(is_accepted=False), deny).approval
    assert denied is not None
    assert denied.decision == "deny"


async def test_a_worker_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    with pytest.raises(SettingsError, match="pip install 'perdure\\[mcp\\]'"):
        await Pool(used=["files"]).prepare()
    await Pool(servers={"files": MCPServer.stdio("files", "x")}).prepare()
