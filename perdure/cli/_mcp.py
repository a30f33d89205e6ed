"""MCP servers and their tools, as `perdure mcp` shows them. They are opened in this process, and closed again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import click
from pydantic import BaseModel, ConfigDict

from perdure.agents.mcp import MCPServer
from perdure.app import App
from perdure.cli._context import Project, say
from perdure.cli._errors import UNREACHABLE
from perdure.cli._format import clean, one_line
from perdure.cli._render import console, print_items, print_table
from perdure.contracts.spec import ToolSpec
from perdure.errors import InvalidInputError, ServerUnreachableError, suggest
from perdure.mcp._faults import ServerFault
from perdure.mcp._listing import Listing
from perdure.mcp.lock import LOCK_FILE, is_accepted, read_lock, write_lock
from perdure.mcp.pool import Pool, check_installed
from perdure.wiring import make_pool, make_redact

_DIGITS = 12


class ServerView(BaseModel):
    """What is known of a server here."""

    model_config = ConfigDict(frozen=True)

    name: str
    target: str
    agents: list[str] = []
    tools: int = 0
    accepted: int = 0
    left_out: int = 0
    problem: str = ""
    """Why it can't be opened; empty if it can."""


class ToolView(BaseModel):
    """A tool of a server."""

    model_config = ConfigDict(frozen=True)

    name: str
    tool: str
    digest: str = ""
    is_accepted: bool = False
    left_out: str = ""
    """Why agents don't get it; empty if they do."""
    description: str = ""
    parameters: dict[str, Any] = {}


@asynccontextmanager
async def _opened(project: Project) -> AsyncGenerator[Pool]:
    pool = make_pool(project.app or App(), project.settings, redact=make_redact(project.app, project.settings))
    check_installed(list(pool.servers))
    try:
        yield pool
    finally:
        await pool.aclose()


async def read_servers(project: Project) -> list[ServerView]:
    """Open all servers, and return what became of it."""
    async with _opened(project) as pool:
        return list(await asyncio.gather(*(_view(project, pool, each) for each in pool.servers.values())))


async def _view(project: Project, pool: Pool, server: MCPServer) -> ServerView:
    agents = project.app.agents.values() if project.app else ()
    users = [agent.name for agent in agents if server.name in agent.mcp_names]
    target = urlsplit(server.url).netloc.rpartition("@")[2] or server.url if server.url else server.command
    view = ServerView(name=server.name, target=target, agents=users)
    if server.disabled:
        return view.model_copy(update={"problem": "disabled"})
    try:
        listing = await pool.listing(server.name)
    except ServerFault as error:
        return view.model_copy(update={"problem": str(error)})
    accepted = sum(_is_accepted(pool, each) for each in listing.specs)
    numbers = {"tools": len(listing.specs), "accepted": accepted, "left_out": len(listing.left_out)}
    return view.model_copy(update=numbers)


def _is_accepted(pool: Pool, spec: ToolSpec) -> bool:
    assert spec.mcp is not None
    return pool.servers[spec.mcp.server].trusted or is_accepted(spec, pool.accepted)


async def _listing(pool: Pool, name: str) -> Listing:
    if name not in pool.servers:
        raise InvalidInputError(f"There is no MCP server {name!r}.{suggest(name, pool.servers)}")
    try:
        return await pool.listing(name)
    except ServerFault as error:
        raise ServerUnreachableError(f"The MCP server {name!r} can't be opened: {error}.") from None


async def read_tools(project: Project, name: str) -> list[ToolView]:
    """Open a server, and return its tools and those that are left out.

    Raises:
        InvalidInputError: There is no such server. Not retryable.
        ServerUnreachableError: It can't be opened. Retryable.
    """
    async with _opened(project) as pool:
        listing = await _listing(pool, name)
        found = [
            ToolView(
                name=each.name,
                tool=each.mcp.tool or each.mcp.kind,
                digest=each.mcp.digest,
                is_accepted=_is_accepted(pool, each),
                description=each.description,
                parameters=each.parameters,
            )
            for each in listing.specs
            if each.mcp is not None
        ]
        return [*found, *(ToolView(name="", tool=tool, left_out=why) for tool, why in listing.left_out)]


async def accept_tools(project: Project, name: str, only: Sequence[str]) -> None:
    """Write the digests of a server's tools into the lock file.

    Raises:
        InvalidInputError: There is no such server, or no such tool. Not retryable.
        ServerUnreachableError: It can't be opened. Retryable.
        SettingsError: The file can't be written. Not retryable.
    """
    folder = project.settings.project_dir
    async with _opened(project) as pool:
        listing = await _listing(pool, name)
    sources = [each.mcp for each in listing.specs if each.mcp is not None]
    offered = {each.tool: each.digest for each in sources if each.digest}
    for tool in only:
        if tool not in offered:
            raise InvalidInputError(f"The MCP server {name!r} has no tool {tool!r}.{suggest(tool, offered)}")
    before = read_lock(folder).get(name, {})
    wanted = {tool: offered[tool] for tool in only or offered}
    write_lock(folder, name, {**before, **wanted} if only else wanted)
    _tell(before, wanted)
    say(f"Written to {folder / LOCK_FILE}; workers read it when they start.")


def _tell(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for tool, digest in now.items():
        state = "new" if tool not in before else "as before" if before[tool] == digest else "CHANGED"
        click.echo(f"{clean(tool)}  {digest[:_DIGITS]}  {state}")


def print_servers(servers: Sequence[ServerView], output: str) -> None:
    """Print a table, or the data; exit with 3 where one can't be opened."""
    if output != "text":
        print_items(servers, output)
    elif not servers:
        say("There is no MCP server: give App(mcp_servers=[…]), or write [tool.perdure.mcp.NAME].")
    else:
        rows = [
            (
                each.name,
                clean(each.target),
                ", ".join(each.agents) or "-",
                "" if each.problem else f"{each.accepted} of {each.tools}",
                str(each.left_out or ""),
                one_line(clean(each.problem), 200) or "ok",
            )
            for each in servers
        ]
        print_table(console(), ("NAME", "TARGET", "AGENTS", "ACCEPTED", "LEFT OUT", "STATE"), rows)
    if any(each.problem not in ("", "disabled") for each in servers):
        raise click.exceptions.Exit(UNREACHABLE)


def print_tools(tools: Sequence[ToolView], output: str) -> None:
    """Print a table, or the data."""
    if output != "text":
        print_items(tools, output)
        return
    rows = [
        (
            clean(each.name or each.tool),
            each.digest[:_DIGITS],
            "left out" if each.left_out else "accepted" if each.is_accepted else "needs approval",
            one_line(clean(each.left_out or each.description), 100),
        )
        for each in tools
    ]
    print_table(console(), ("TOOL", "DIGEST", "STATE", "DESCRIPTION"), rows)
