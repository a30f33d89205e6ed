"""`MCPServer`: a server whose tools agents call, as users declare it. Both sides; data, which opens nothing.

The `mcp` package is the worker's (`perdure.mcp`): declaring a server needs none of it.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Self, TypedDict, Unpack, cast

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from perdure.agents._names import check_name, is_name
from perdure.errors import InvalidToolError, PerdureError, suggest

_MAX_OPEN = timedelta(seconds=45)
"""A run that starts waits no longer for a server: what pins its tools is one local activity."""

_NONE, _DAY = timedelta(0), timedelta(days=1)

Names = Annotated[tuple[str, ...], Field(strict=False)]


def _read_seconds(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


Seconds = Annotated[timedelta, BeforeValidator(_read_seconds)]


class MCPOptions(TypedDict, total=False):
    """What the tools of a server are to agents; see the fields of `MCPServer`."""

    allow: Sequence[str]
    rename: Mapping[str, str]
    prefix: str
    trusted: bool
    trust_annotations: bool
    idempotent: Sequence[str]
    read_only: Sequence[str]
    needs_approval: Sequence[str]
    resources: bool
    prompts: bool
    stateful: bool
    required: bool
    open_timeout: timedelta
    timeout: timedelta
    max_tools: int
    max_tool_bytes: int
    max_message_bytes: int
    max_result_bytes: int


class MCPServer(BaseModel):
    """An MCP server: how workers reach it, and what of it agents may use.

    Make it with `MCPServer.stdio` or `MCPServer.http`, or in `[tool.perdure.mcp.NAME]`, where `command`, `args`,
    `env`, `url` and `headers` are what MCP clients call them. In `args`, `env`, `url` and `headers`, `${NAME}` and
    `${NAME:-default}` stand for environment variables of the worker, so that no secret is in the code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    name: str
    """What agents, and the names of its tools, call it."""
    command: str = ""
    """The program that is started, and spoken to over its standard input and output."""
    args: Names = Field(default=(), repr=False)
    env: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    """Variables of the program, beside those that any program needs (`PATH`, `HOME`, …) and `pass_env`."""
    pass_env: Names = ()
    """Variables of the worker that the program gets too; it gets no others."""
    cwd: str | None = None
    """Where the program runs; the project's folder when not given."""
    url: str = Field(default="", repr=False)
    """The address of a server that speaks Streamable HTTP."""
    headers: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    type: str = ""
    """What some clients write beside `command` or `url`."""
    disabled: bool = False
    """Agents go without it."""

    allow: Names = ("*",)
    """Its tools that agents get, as patterns of its own names: `*` is any text."""
    rename: dict[str, str] = Field(default_factory=dict[str, str])
    """Other names of tools, by its own; no prefix is added to them."""
    prefix: str | None = None
    """Comes before the names of its tools; `NAME__` when not given."""
    trusted: bool = False
    """Use its tools whatever it says of them. Else calls of one that isn't in `mcp.lock` need approval."""
    trust_annotations: bool = False
    """Believe what it says of its tools: that they are read-only, or idempotent."""
    idempotent: Names = ()
    """Its tools, as patterns, that may be run twice: only these are run again after a failure."""
    read_only: Names = ()
    """Those that change nothing: `approvals="strict"` asks for none of them."""
    needs_approval: Names = ()
    """Those of which a person must approve each call."""
    resources: bool = False
    """Offer its resources too, as two tools: to list them and to read one."""
    prompts: bool = False
    """Offer its prompts too, as two tools: to list them and to get one."""
    stateful: bool = False
    """A call needs the session of those before: each run has a session of its own, with one worker."""
    required: bool = False
    """Fail a run that starts while it can't be opened. Else the run goes without it, and the agent is told."""

    open_timeout: Seconds = Field(
        default=timedelta(seconds=30), validation_alias=AliasChoices("open_timeout_seconds", "open_timeout")
    )
    """Time to open it and list its tools; at most 45 seconds."""
    timeout: Seconds = Field(
        default=timedelta(seconds=60), validation_alias=AliasChoices("timeout_seconds", "timeout")
    )
    """Time for one call; at most a day."""
    max_tools: int = Field(default=128, ge=1, le=1000)
    """The first of its tools that agents get; the others are left out."""
    max_tool_bytes: int = Field(default=16 * 1024, ge=256, le=200_000)
    """A tool whose description and schema take more is left out."""
    max_message_bytes: int = Field(default=8_000_000, ge=10_000, le=100_000_000)
    """A server that sends a larger message is closed."""
    max_result_bytes: int = Field(default=256 * 1024, ge=1, le=50_000_000)
    """The text of longer results is cut, with a notice."""

    @classmethod
    def stdio(
        cls,
        name: str,
        command: str,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        cwd: str | None = None,
        **options: Unpack[MCPOptions],
    ) -> Self:
        """Declare a server that workers start as a process.

        Raises:
            InvalidToolError: The options can't be used. Not retryable.
        """
        process = {"command": command, "args": args, "env": env or {}, "pass_env": pass_env, "cwd": cwd}
        return cls.read(name, {**process, **options})

    @classmethod
    def http(
        cls, name: str, url: str, *, headers: Mapping[str, str] | None = None, **options: Unpack[MCPOptions]
    ) -> Self:
        """Declare a server that workers reach at an address, over Streamable HTTP.

        Raises:
            InvalidToolError: The options can't be used. Not retryable.
        """
        return cls.read(name, {"url": url, "headers": headers or {}, **options})

    @classmethod
    def read(cls, name: str, table: Mapping[str, Any]) -> Self:
        """Return the server of a table, as in a configuration.

        Raises:
            InvalidToolError: The table can't be used; tells no value of it. Not retryable.
        """
        try:
            return cls.model_validate({"name": name, **{key: _plain(value) for key, value in table.items()}})
        except ValidationError as error:
            raise InvalidToolError(f"MCP server {name!r}: {_explain(error)}") from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            check_name("MCP server", self.name)
        except PerdureError as error:
            raise ValueError(error.message.rstrip(".")) from None
        faults = {
            "needs either command or url": bool(self.command) == bool(self.url),
            "env, args, cwd and pass_env go with command": bool(self.url)
            and bool(self.args or self.env or self.pass_env or self.cwd),
            "headers go with url": bool(self.command) and bool(self.headers),
            f"speaks {self.type!r}, which perdure doesn't: give the address of its Streamable HTTP": self.type
            not in (
                "",
                "stdio",
                "local",
                "http",
                "streamable-http",
                "streamable_http",
                "streamableHttp",
                "remote",
            ),
            "url should be an http:// or https:// address, or begin with ${NAME}": bool(self.url)
            and not self.url.startswith(("http://", "https://", "${")),
            "prefix should be letters, digits, _ or -, and begin with a letter": bool(self.prefix)
            and not is_name(self.prefix or ""),
            "rename should be to names of letters, digits, _ or -": not all(map(is_name, self.rename.values())),
            "open_timeout_seconds should be more than 0, and at most 45": not _NONE
            < self.open_timeout
            <= _MAX_OPEN,
            "timeout_seconds should be more than 0, and at most a day": not _NONE < self.timeout <= _DAY,
            "rename has the same name twice": len(set(self.rename.values())) < len(self.rename),
        }
        for fault, is_present in faults.items():
            if is_present:
                raise ValueError(fault)
        return self

    @property
    def before(self) -> str:
        """What comes before the names of its tools."""
        return f"{self.name}__" if self.prefix is None else self.prefix


def _plain(value: Any) -> Any:
    """Return views of mappings as dictionaries: the schema is strict."""
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value


def _explain(error: ValidationError) -> str:
    """Return what is wrong with a table, without a value of it; unknown keys come first."""
    problems = error.errors(include_url=False, include_input=False)
    first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no option {where!r}.{suggest(where, MCPServer.model_fields)}"
    text = first["msg"].removeprefix("Value error, ")
    return f"{f'{where}: ' if where else ''}{text}."
