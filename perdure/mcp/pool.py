"""The sessions of a worker: opened when needed, shared by its runs, opened again when they die. Activity side."""

import asyncio
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from perdure.agents.context import ToolContext
from perdure.agents.mcp import MCPServer
from perdure.agents.schema_tool import OutcomeUnknown, SchemaTool
from perdure.contracts.calls import McpSession
from perdure.contracts.messages import ContentPart
from perdure.contracts.spec import McpSource, ToolSpec
from perdure.errors import SettingsError, ToolError, ToolRetry, suggest
from perdure.mcp._faults import Refused, ServerFault, SessionLost, StaleSession, Unanswered
from perdure.mcp._listing import Listing, without_collisions
from perdure.mcp._variables import secrets_of
from perdure.mcp.lock import Accepted, is_accepted

if TYPE_CHECKING:
    from perdure.mcp._session import Session

_log = logging.getLogger(__name__)

_FRESH_SECONDS = 60.0
"""A call asks for the list again once it is older: not every server tells of its changes."""
_FRESH_AT_START_SECONDS = 5.0
"""The same for a run that starts, which is pinned to the list."""
_IDLE_SECONDS = 900.0
"""A session that nobody used for so long is closed; for a stateful one, what it held is lost."""
_MAX_STATEFUL = 100
"""Sessions of runs at once in a worker."""


def check_installed(servers: Sequence[str]) -> None:
    """Refuse servers where the `mcp` package is missing.

    Raises:
        SettingsError: Not retryable.
    """
    if servers and importlib.util.find_spec("mcp") is None:
        raise SettingsError(
            f"The MCP server {servers[0]!r} needs the package mcp: pip install 'perdure[mcp]' on the workers."
        )


def servers_of(
    declared: Mapping[str, MCPServer], configured: Mapping[str, MCPServer], used: Mapping[str, str]
) -> dict[str, MCPServer]:
    """Return the servers by name: those of the settings go over those of the app.

    Args:
        declared: In the app.
        configured: In the settings.
        used: Names that agents give, and an agent that gives it.

    Raises:
        SettingsError: An agent names a server that there isn't. Not retryable.
    """
    servers = {**declared, **configured}
    for name, agent in used.items():
        if name not in servers:
            raise SettingsError(
                f"Agent {agent!r}: there is no MCP server {name!r}.{suggest(name, servers)}"
                f" Give it to App(mcp_servers=…), or set it up in [tool.perdure.mcp.{name}]."
            )
    return servers


@dataclass(frozen=True)
class PinnedTools:
    """What an agent gets of its servers when a run starts.

    Attributes:
        specs: The tools.
        notices: What the agent must know: servers that it goes without.
    """

    specs: tuple[ToolSpec, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(eq=False)
class Pool:
    """The servers of a worker, and its sessions with them.

    Attributes:
        servers: By name.
        folder: The project's: where processes run, and where what was accepted is.
        accepted: Digests of tools that people have accepted.
        redact: Takes the secrets of the worker out of a text.
        used: Servers that agents name.
        own_queue: The Task Queue that this worker alone polls; empty while there is none.
    """

    servers: Mapping[str, MCPServer] = field(default_factory=dict[str, MCPServer])
    folder: Path = Path()
    accepted: Accepted = field(default_factory=dict[str, dict[str, str]])
    redact: Callable[[str], str] = str
    own_queue: str = ""
    used: Sequence[str] = ()
    _shared: "dict[str, Session]" = field(default_factory=dict[str, "Session"])
    _stateful: "dict[str, Session]" = field(default_factory=dict[str, "Session"])
    _sweeping: "asyncio.Task[None] | None" = None

    @property
    def has_stateful(self) -> bool:
        """Whether a server keeps a session for each run."""
        return any(each.stateful and not each.disabled for each in self.servers.values())

    async def prepare(self) -> None:
        """Import the `mcp` package, where it will be needed; sessions are opened when they are.

        Raises:
            SettingsError: It is missing. Not retryable.
        """
        check_installed(self.used)
        if self.used:
            await _import_sdk()

    async def aclose(self) -> None:
        """Close all sessions."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None  # a worker that runs again begins anew
        sessions = [*self._shared.values(), *self._stateful.values()]
        self._shared.clear()
        self._stateful.clear()
        await asyncio.gather(*(each.close() for each in sessions))

    async def pinned_tools(self, names: Sequence[str], own: Sequence[str]) -> PinnedTools:
        """Return the tools of servers, for a run that starts.

        Args:
            names: The servers of the agent.
            own: Names of its other tools.

        Raises:
            ToolError: A server that is required can't be used. Retryable.
        """
        wanted = [name for name in names if name in self.servers and not self.servers[name].disabled]
        found = await asyncio.gather(*(self._listing_or_reason(name) for name in wanted))
        notices = [
            f"The tools of the MCP server {name!r} are not available in this run: {reason}."
            for name, reason in zip(wanted, found, strict=True)
            if isinstance(reason, str)
        ]
        specs, lost = without_collisions([each for each in found if isinstance(each, Listing)], own)
        for name in lost:
            _log.warning("MCP: the tool %s is left out: its name is taken, or there are too many tools", name)
        return PinnedTools(tuple(self._judged(each) for each in specs), tuple(notices))

    async def listing(self, name: str) -> Listing:
        """Return what agents get of a server, as it says now.

        Raises:
            ServerFault: It can't be used.
        """
        try:
            session = await self._open(self.servers[name])
            if session.is_changed or monotonic() - session.listed_at > _FRESH_AT_START_SECONDS:
                await session.refresh()
        except (ServerFault, Unanswered, Refused) as error:
            raise ServerFault(self._clean(self.servers[name], str(error))) from None
        return session.listing

    def _judged(self, spec: ToolSpec) -> ToolSpec:
        """Return a tool with whether somebody accepted what its server says of it."""
        assert spec.mcp is not None
        is_good = self.servers[spec.mcp.server].trusted or is_accepted(spec, self.accepted)
        return spec.model_copy(update={"mcp": spec.mcp.model_copy(update={"is_accepted": is_good})})

    async def _listing_or_reason(self, name: str) -> Listing | str:
        try:
            listing = await self.listing(name)
        except ServerFault as error:
            if self.servers[name].required:
                raise ToolError(
                    f"The MCP server {name!r} is required, and can't be used: {error}.", is_retryable=True
                ) from None
            _log.warning("MCP: a run starts without the server %s: %s", name, error)
            return str(error)
        for tool, reason in listing.left_out:
            _log.warning("MCP: the tool %r of %s is left out: %s", tool, name, reason)
        return listing

    async def find(self, name: str) -> ToolSpec | None:
        """Return the tool of that name, of any server that isn't stateful; None where there is none."""
        for server in self.servers.values():
            is_near = name.startswith(server.before) or name in server.rename.values()
            if server.disabled or server.stateful or not is_near:
                continue
            listing = await self._listing_or_reason(server.name)
            specs = listing.specs if isinstance(listing, Listing) else ()
            spec = next((each for each in specs if each.name == name), None)
            if spec is not None:
                return self._judged(spec)
        return None

    def tool(self, pinned: ToolSpec, session: McpSession | None = None) -> "McpTool":
        """Return what answers a call of a pinned tool."""
        return McpTool(self, pinned, session)

    async def call(
        self, tool: "McpTool", arguments: dict[str, Any], context: ToolContext
    ) -> Sequence[ContentPart]:
        """Have a server answer a call.

        Raises:
            ServerFault: Nothing was run.
            Unanswered: It may have been run.
            Refused: The server says that it can't.
        """
        server = self.servers.get(tool.source.server)
        if server is None or server.disabled:
            raise ServerFault("it is no longer configured")
        try:
            return await self._call(server, tool, arguments, context)
        except (ServerFault, Unanswered, Refused) as error:
            raise type(error)(self._clean(server, str(error))) from None

    async def _call(
        self, server: MCPServer, tool: "McpTool", arguments: dict[str, Any], context: ToolContext
    ) -> Sequence[ContentPart]:
        from perdure.mcp._asking import ask  # needs the mcp package

        def clean(text: str) -> str:
            return self._clean(server, text)

        while True:
            session = await (self._held(server, tool) if tool.source.is_stateful else self._open(server))
            try:
                await self._check(session, tool.source)
                return await ask(session, tool.source, arguments, put_blob=context.put_blob, redact=clean)
            except StaleSession as error:
                if tool.source.is_stateful:
                    raise SessionLost(str(error)) from None
                if tool.is_renewed:
                    raise
                tool.is_renewed = True
            finally:
                if tool.source.is_stateful and session.has_ended:
                    tool.session = McpSession(server=server.name)

    async def _check(self, session: "Session", source: McpSource) -> None:
        """Refuse a tool that the server describes otherwise than when the run was pinned."""
        if session.is_changed or monotonic() - session.listed_at > _FRESH_SECONDS:
            try:
                await session.refresh()
            except (Unanswered, Refused) as error:
                raise ServerFault(f"its list of tools can't be read: {error}") from None
        digest = session.listing.digest(source)
        if digest is None:
            raise ServerFault("it no longer has this tool. Go on without it")
        if digest != source.digest:
            raise ServerFault(
                "it describes this tool otherwise than when the run began, so it is another tool, which nobody "
                "accepted for this run. Go on without it"
            )

    async def _open(self, server: MCPServer) -> "Session":
        await _import_sdk()
        session = self._shared.get(server.name)
        if session is None or session.has_ended:
            session = self._shared[server.name] = self._make(server)
        await session.ready()
        return session

    async def _held(self, server: MCPServer, tool: "McpTool") -> "Session":
        """Return the session that a run has with a stateful server, or its first one."""
        if tool.session is not None and tool.session.id:
            session = self._stateful.get(tool.session.id)
            if session is None or session.has_ended:
                tool.session = McpSession(server=server.name)
                raise SessionLost("the worker that held it has closed it, or the server ended")
            return session
        if len(self._stateful) >= _MAX_STATEFUL:
            raise ServerFault(f"this worker holds {_MAX_STATEFUL} sessions of runs already; try again later")
        await _import_sdk()
        session = self._make(server)
        self._stateful[session.id] = session
        await session.ready()
        tool.session = McpSession(server=server.name, id=session.id, task_queue=self.own_queue)
        return session

    def _make(self, server: MCPServer) -> "Session":
        from perdure.mcp._session import Session  # needs the mcp package

        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep())
        return Session(server, self.folder)

    async def _sweep(self) -> None:
        """Close what nobody uses."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS / 10)
            for sessions in (self._shared, self._stateful):
                for key, session in list(sessions.items()):
                    is_idle = not session.calls and monotonic() - session.used_at > _IDLE_SECONDS
                    if session.has_ended or is_idle:
                        del sessions[key]
                        await session.close()

    def _clean(self, server: MCPServer, text: str) -> str:
        for secret in sorted(set(secrets_of(server, os.environ)), key=len, reverse=True):
            text = text.replace(secret, "***")
        return self.redact(text)


async def _import_sdk() -> None:
    """Import the `mcp` package beside the event loop: it takes a second, in which no call could heartbeat."""
    if "perdure.mcp._asking" not in sys.modules:
        await asyncio.to_thread(importlib.import_module, "perdure.mcp._asking")


class McpTool(SchemaTool):
    """A call of a tool that a run is pinned to.

    Attributes:
        source: Whose it is.
        session: What the next calls of a stateful server need.
        is_renewed: A session was found ended, and another opened.
    """

    def __init__(self, pool: Pool, pinned: ToolSpec, session: McpSession | None) -> None:
        """Call nothing yet."""
        super().__init__(self._answer, pinned)
        assert pinned.mcp is not None
        self.source = pinned.mcp
        self.session = session
        self.is_renewed = False
        self._pool = pool

    @property
    def is_checked_there(self) -> bool:
        """A server checks its arguments; to go by its schema here would let it choose what a worker computes."""
        return True

    async def _answer(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        name = self.source.server
        try:
            return await self._pool.call(self, arguments, context)
        except Refused as error:
            raise ToolRetry(str(error)) from None
        except SessionLost as error:
            raise ToolRetry(
                f"Not run: the session with the MCP server {name!r} is lost, and with it all that it held "
                f"({error}). The next call begins a new one: do again what it needs."
            ) from None
        except ServerFault as error:
            if self.spec.idempotent:
                raise ServerFault(f"the MCP server {name!r} can't be used: {error}") from None
            raise ToolRetry(f"Not run: the MCP server {name!r} can't be used: {error}.") from None
        except Unanswered as error:
            lost = ", and its session is lost" if self.session is not None and not self.session.id else ""
            text = f"the MCP server {name!r} gave no answer: {error}{lost}"
            raise (Unanswered(text) if self.spec.idempotent else OutcomeUnknown(text)) from None
