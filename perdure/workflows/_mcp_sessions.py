"""The sessions of a run with stateful MCP servers: each is with one worker, by its Task Queue. Workflow side.

The first call goes to any worker, and its result says which has the session. While it is at work, others of the
same server wait for it: else each would open a session of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from temporalio.exceptions import ActivityError, TimeoutType
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from perdure.contracts.calls import CallToolRequest, CallToolResult, McpSession
from perdure.contracts.spec import ToolSpec

Ask = Callable[[CallToolRequest], Awaitable[CallToolResult]]


class McpSessions:
    """What is known of a run's sessions, by server."""

    def __init__(self, carried: Iterable[McpSession] = ()) -> None:
        """Go on with those of the run before."""
        self._known = {each.server: each for each in carried}
        self._opening: dict[str, asyncio.Lock] = {}

    def carried(self) -> tuple[McpSession, ...]:
        """Return what the next run must know."""
        return tuple(self._known.values())

    async def call(self, tool: ToolSpec, request: CallToolRequest, ask: Ask) -> CallToolResult | None:
        """Have a call made where the session is.

        Returns:
            None where the worker that held the session is gone. The call was not run.

        Raises:
            ActivityError: The outcome is not known.
        """
        assert tool.mcp is not None
        server = tool.mcp.server
        if server in self._known:
            return await self._in_session(server, request, ask)
        async with self._opening.setdefault(server, asyncio.Lock()):
            if server not in self._known:
                result = await ask(request)
                self._note(server, result.session)
                return result
        return await self._in_session(server, request, ask)

    async def _in_session(self, server: str, request: CallToolRequest, ask: Ask) -> CallToolResult | None:
        session = self._known[server]
        try:
            result = await ask(request.model_copy(update={"session": session}))
        except ActivityError as error:
            self._forget(session)
            if _was_not_taken(error):
                return None
            raise
        if result.session is None or not result.session.id:
            self._forget(session)
        return result

    def _note(self, server: str, session: McpSession | None) -> None:
        if session is not None and session.id:
            self._known[server] = session

    def _forget(self, session: McpSession) -> None:
        """Let the next call begin a session, unless one of the same turn has begun it already."""
        if self._known.get(session.server) == session:
            del self._known[session.server]


def lost_session(tool: ToolSpec) -> str:
    """Return what the model is told of a call that was not run, for want of the session."""
    assert tool.mcp is not None
    return (
        f"Not run: the session with the MCP server {tool.mcp.server!r} is lost, and with it all that it held, "
        "since the worker that held it is gone. The next call begins a new one: do again what it needs."
    )


def _was_not_taken(error: ActivityError) -> bool:
    cause = error.cause
    return isinstance(cause, TemporalTimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START
