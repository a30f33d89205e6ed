"""Runs that call tools of MCP servers, without a Temporal server."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from perdure import Agent, MCPServer
from perdure.contracts.calls import CallToolRequest, CallToolResult, McpSession
from perdure.contracts.messages import ContentPart, Outcome, ToolResultPart
from perdure.contracts.spec import AgentSpec
from perdure.mcp.pool import Pool
from tests.activities.rig import Rig, redact

ROOT = Path(__file__).parents[2]
PEER = ["-m", "tests.support.mcp_server"]


def peer(name: str = "peer", **options: Any) -> MCPServer:
    """Return the server on the SDK, as a process."""
    return MCPServer.stdio(name, sys.executable, args=PEER, cwd=str(ROOT), **options)


def hostile(kind: str, **options: Any) -> MCPServer:
    return MCPServer.stdio(
        "bad", sys.executable, args=[str(ROOT / "tests/support/mcp_hostile.py"), kind], **options
    )


def hostile_processes() -> list[psutil.Process]:
    """Return those that are not over; one may end while it is looked at."""
    found: list[psutil.Process] = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):
            if each.status() != psutil.STATUS_ZOMBIE and "mcp_hostile" in " ".join(each.cmdline()):
                found.append(each)
    return found


@dataclass
class Runs:
    """A worker's activities, of one agent with these servers."""

    rig: Rig
    spec: AgentSpec | None = None
    results: list[CallToolResult] = field(default_factory=list[CallToolResult])

    async def start(self) -> AgentSpec:
        self.spec = await self.rig.pin()
        return self.spec

    async def call(
        self, name: str, /, *, session: McpSession | None = None, **arguments: Any
    ) -> tuple[Outcome, str]:
        """Call a tool, and return the outcome and the text."""
        outcome, parts = await self.content(name, session=session, **arguments)
        return outcome, "".join(getattr(each, "text", "") for each in parts)

    async def content(
        self, name: str, /, *, session: McpSession | None = None, **arguments: Any
    ) -> tuple[Outcome, Sequence[ContentPart]]:
        spec = self.spec or await self.start()
        request = CallToolRequest(
            spec=spec.digest,
            call_slot=1,
            slot=2,
            key="key",
            call_id="call_1",
            name=name,
            arguments=json.dumps(arguments),
            session=session,
        )
        result = await self.rig.environment().run(self.rig.call_tool, request)
        self.results.append(result)
        (part,) = result.message.parts
        assert isinstance(part, ToolResultPart)
        return part.outcome, part.content

    @property
    def names(self) -> list[str]:
        assert self.spec is not None
        return [each.name for each in self.spec.tools]

    @property
    def session(self) -> McpSession | None:
        return self.results[-1].session


def make_runs(folder: Path, provider: Any, *servers: MCPServer, accepted: Mapping[str, Any] | None = None) -> Runs:
    agent = Agent("worker", model="scripted:x", mcp_servers=servers, instructions="Work.")
    pool = Pool(
        servers={each.name: each for each in servers}, folder=folder, accepted=accepted or {}, redact=redact
    )
    return Runs(Rig(folder / "blobs", agents=[agent], providers=[provider], pool=pool))
