"""One session with a server, in a task of its own. Activity side; imported when one is opened.

The SDK's contexts must be entered and left in one task, and a call may be cancelled at any time: so the session
lives in a task that nothing but its end ends, and calls only use it.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast
from uuid import uuid4

import mcp_types as types
from jsonschema import Draft202012Validator, SchemaError
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT
from pydantic import BaseModel, ValidationError

import perdure
from perdure.agents.mcp import MCPServer
from perdure.contracts.spec import JsonSchema
from perdure.mcp._faults import Refused, ServerFault, StaleSession, Unanswered
from perdure.mcp._http import HttpWire
from perdure.mcp._listing import Listing, Offer, read_listing
from perdure.mcp._stdio import Command, ProcessWire
from perdure.mcp._variables import expand, process_environment

T = TypeVar("T", bound=BaseModel)

_MAX_PAGES = 50
_MAX_OFFERS = 5000
_CLOSE_SECONDS = 5.0
_GRACE = 1.0


for _name in ("client", "mcp.client", "mcp.shared"):
    # They write whatever a server sends into the log, with a traceback each; faults are told by calls.
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(eq=False)
class Session:
    """An open session, or one that is being opened.

    Attributes:
        id: Tells it from all others.
        listing: What agents get of the server, as it said last.
        listed_at: When that was.
        is_changed: The server says that its list is another one now.
    """

    server: MCPServer
    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    id: str = field(default_factory=lambda: uuid4().hex)
    listing: Listing = field(default_factory=Listing)
    listed_at: float = 0.0
    used_at: float = field(default_factory=monotonic)
    calls: int = 0
    is_changed: bool = False

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._over = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client: Client | None = None
        self._wire = self._make_wire()
        self._task = asyncio.create_task(self._live(), name=f"mcp {self.server.name}")

    @property
    def has_ended(self) -> bool:
        """Whether it is over, or never began."""
        return self._over.is_set() or self._wire.has_ended or self._task.done()

    async def ready(self) -> None:
        """Wait until it is open.

        Raises:
            ServerFault: It can't be opened, or not in time.
        """
        await asyncio.shield(self._ready)

    async def close(self) -> None:
        """End it, and the process of the server."""
        self._over.set()
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(self._task)
        self._task.cancel()

    def _make_wire(self) -> ProcessWire | HttpWire:
        server = self.server
        if server.url:
            return HttpWire(
                expand(server.url, self.environ),
                {name: expand(value, self.environ) for name, value in server.headers.items()},
                max_message_bytes=server.max_message_bytes,
                read_seconds=server.timeout.total_seconds() + _GRACE,
                on_end=self._over.set,
            )
        command = Command(
            words=[expand(each, self.environ) for each in (server.command, *server.args)],
            environment=process_environment(server, self.environ),
            folder=self.folder / expand(server.cwd or "", self.environ),
            max_message_bytes=server.max_message_bytes,
        )
        return ProcessWire(command, self._over.set)

    async def _live(self) -> None:
        """Open the session, hold it until it is over, and close it."""
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self.server.open_timeout.total_seconds()):
                    client = Client(
                        self._wire.opened(),
                        cache=None,
                        client_info=types.Implementation(name="perdure", version=perdure.__version__),
                        message_handler=self._hear,
                    )
                    self._client = await stack.enter_async_context(client)
                    await self.refresh()
                if not self._ready.done():
                    self._ready.set_result(None)
                await self._over.wait()
        except TimeoutError:
            self._fail(f"it was not open within {self.server.open_timeout.total_seconds():g} seconds")
        except (Exception, BaseExceptionGroup) as error:  # of the SDK, its libraries, or a closed pipe
            self._fail(self._wire.fault or _reason(error))
        finally:
            self._over.set()
            self._client = None
            if not self._ready.done():
                self._fail(self._wire.fault or "it ended")

    def _fail(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ServerFault(reason))
            self._ready.exception()  # nobody may be waiting

    async def _hear(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.is_changed = True

    async def refresh(self) -> None:
        """Ask for the list of tools again.

        Raises:
            ServerFault, Unanswered, Refused: As `request` does.
        """
        assert self._client is not None
        self.is_changed = False
        capabilities = self._client.server_capabilities
        offers = await self._offers() if capabilities.tools is not None else []
        self.listing = await asyncio.to_thread(
            read_listing,
            self.server,
            offers,
            has_resources=capabilities.resources is not None,
            has_prompts=capabilities.prompts is not None,
            check_schema=_schema_fault,
        )
        self.listed_at = monotonic()

    async def _offers(self) -> list[Offer]:
        found: list[Offer] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor)
            page = await self.request(types.ListToolsRequest(params=params), types.ListToolsResult)
            found += [_offer(each) for each in page.tools]
            cursor = page.next_cursor
            if cursor is None or len(found) > _MAX_OFFERS:
                break
        return found[:_MAX_OFFERS]

    async def request(self, request: Any, result_type: type[T]) -> T:
        """Send a request, and return its result.

        Raises:
            StaleSession: The session had ended; nothing was run.
            Unanswered: There is no answer; it may have been run.
            Refused: The server answered with an error, or with nothing that can be used.
        """
        client = self._client
        if client is None or self.has_ended:
            raise StaleSession(self._wire.fault or "its session has ended")
        seconds = self.server.timeout.total_seconds()
        self.calls += 1
        try:
            async with asyncio.timeout(seconds + _GRACE):
                return await client.session.send_request(
                    request, result_type, request_read_timeout_seconds=seconds
                )
        except TimeoutError:
            raise Unanswered(f"it did not answer within {seconds:g} seconds") from None
        except MCPError as error:
            raise await self._explain(error) from None
        except (ValidationError, RuntimeError, ValueError) as error:
            raise Refused(f"it answered with something that is no result ({type(error).__name__})") from None
        except OSError as error:
            raise Unanswered(_reason(error)) from None
        finally:
            self.calls -= 1
            self.used_at = monotonic()

    async def _explain(self, error: MCPError) -> Exception:
        if error.error.code == CONNECTION_CLOSED and not self._wire.fault:
            with suppress(TimeoutError):  # the wire says why a moment later
                await asyncio.wait_for(self._over.wait(), _GRACE)
        if self._wire.fault:  # it is the wire that failed, and the SDK made an answer of that
            is_unsent = isinstance(self._wire, HttpWire) and self._wire.is_unsent
            return StaleSession(self._wire.fault) if is_unsent else Unanswered(self._wire.fault)
        if error.error.code == REQUEST_TIMEOUT:
            return Unanswered(f"it did not answer within {self.server.timeout.total_seconds():g} seconds")
        if error.error.code == CONNECTION_CLOSED:
            self._over.set()
            return Unanswered("its session ended")
        return Refused(f"{error.error.message} (code {error.error.code})")


def _offer(tool: types.Tool) -> Offer:
    notes = tool.annotations
    return Offer(
        name=tool.name,
        description=tool.description or tool.title or "",
        parameters=tool.input_schema,
        is_read_only=bool(notes and notes.read_only_hint),
        is_idempotent=bool(notes and notes.idempotent_hint),
    )


def _schema_fault(schema: JsonSchema) -> str:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return error.message[:200]
    except Exception as error:  # a schema that the checker itself stumbles over
        return type(error).__name__
    return ""


def _reason(error: BaseException) -> str:
    """Return the first cause of what the SDK's task groups raise, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, ServerFault | Unanswered | Refused):
        return str(error)
    if isinstance(error, MCPError):
        return f"it answered: {error.error.message[:300]}"
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
