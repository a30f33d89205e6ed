"""`Settings`: every knob of perdure, and where its value came from. Wiring and client side.

Flag over `PERDURE_*` over the nearest `[tool.perdure]` over the default. The connection to Temporal is not
here (see `perdure.connection`), and neither is a secret: a provider's table names an environment variable.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from perdure._production import ProductionSettings
from perdure.agents.approvals import check_rule
from perdure.agents.mcp import MCPServer
from perdure.contracts.waits import ApprovalRule
from perdure.errors import SettingsError, UserError, suggest

_SECRET = re.compile(r"(^|[-_])(api[-_]?key|key|token|secret|passw(or)?d|credentials?|authorization)s?$", re.I)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_TABLE = "[tool.perdure]"
_NOT_SECONDS = "should be a number of seconds"


def _read_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise ValueError(_NOT_SECONDS) from None
    raise ValueError(_NOT_SECONDS)


def _check_not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("should not be negative")
    return value


def _check_heartbeat(value: timedelta) -> timedelta:
    if value < timedelta(seconds=0.1):
        raise ValueError("should be at least 0.1")
    return value


def _check_ui_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise ValueError("should be an http:// or https:// address, without credentials")
    return value.rstrip("/")


def _read_level(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
Port = Annotated[int, Field(ge=0, le=65535)]


class TelemetryTable(BaseModel):
    """What traces and logs tell, from `[tool.perdure.telemetry]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    content: bool = False
    """Whether spans have messages, arguments and results, and log lines the texts of failures.

    Without secrets; for all to read who see them."""


QUEUE_TAKEN = "{key} should be a Task Queue of its own: '{queue}' is the worker's or another's"


def _checked_url(value: str | None, where: str) -> str | None:
    if value is None:
        return None
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("should be an http:// or https:// address")
    if "@" in url.netloc or any(_SECRET.search(name) for name, _ in parse_qsl(url.query)):
        raise ValueError(f"holds a secret: put it into the environment {where}")
    return value


class ProviderTable(BaseModel):
    """What is set of a provider in `[tool.perdure.providers.NAME]`: how it is reached, or how its calls queue."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    protocol: Literal["openai", "anthropic"] | None = None
    """The wire format that it speaks; together with `base_url`. Neither is needed for one that perdure knows."""
    base_url: str | None = None
    """Its address, without credentials."""
    api_key_env: str | None = None
    """The name of the environment variable with the key, on the worker. None when it needs no key."""
    max_tokens_field: str | None = None
    """What the vendor calls the limit of output tokens, where it differs from the protocol's own."""

    task_queue: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """A Task Queue of its own for its model calls; with the worker's other calls when not set."""
    max_requests_per_second: Annotated[float, Field(gt=0, le=100_000, strict=False)] | None = None
    """Calls that the Task Queue hands out a second, over all workers; `perdure provider limit` goes over it."""
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Its calls at once in a worker; `max_concurrent_activities` when not set."""

    @model_validator(mode="after")
    def _check_whole(self) -> "ProviderTable":
        way = {name: getattr(self, name) for name in ("protocol", "base_url", "api_key_env", "max_tokens_field")}
        if any(way.values()):
            for name in ("protocol", "base_url"):
                if way[name] is None:
                    raise ValueError(f"needs {name}")
        if self.task_queue is None:
            for name in ("max_requests_per_second", "max_concurrent"):
                if getattr(self, name) is not None:
                    raise ValueError(f"needs task_queue: {name} is a limit of that")
        return self

    def way(self) -> dict[str, str]:
        """Return how the provider is reached; nothing where that isn't said."""
        queue = {"task_queue", "max_requests_per_second", "max_concurrent"}
        return self.model_dump(exclude_none=True, exclude=queue)

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return _checked_url(value, "and name its variable in api_key_env")

    @field_validator("api_key_env")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError(
                "should be the name of an environment variable, in capitals, such as OPENAI_API_KEY;"
                " never the key itself"
            )
        return value


def _read_usd(value: object) -> object:
    """Take numbers alone, as they are written: a binary fraction is no price."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(str(value))
    raise ValueError("should be a number of US dollars per million tokens")


Usd = Annotated[Decimal, BeforeValidator(_read_usd), Field(ge=0, le=100_000)]


class PriceTable(BaseModel):
    """The price of a model, from `[tool.perdure.prices."provider:model"]`: US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input_usd: Usd
    output_usd: Usd
    """Reasoning included."""
    cached_input_usd: Usd | None = None
    """Input that the vendor read from its cache; as `input_usd` when not given."""
    cache_write_usd: Usd | None = None
    """Input that the vendor wrote to its cache; as `input_usd` when not given."""


class StorageTable(BaseModel):
    """Where payloads are kept that are too large for Event History, from `[tool.perdure.storage]`.

    Clients and workers of a namespace need the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    driver: Literal["local", "s3", "gcs"]
    """A folder of this machine, or a bucket that all machines reach."""
    path: Annotated[Path, Field(strict=False)] | None = None
    """The folder, relative to the project; `payloads` in `state_dir` when not set."""
    bucket: Annotated[str, Field(min_length=1)] | None = None
    """The bucket, which is there already."""
    endpoint_url: str | None = None
    """Of what speaks the store's protocol, where that isn't the vendor's own."""
    region: str | None = None
    """Of the bucket; that of AWS's own configuration when not set."""
    threshold_bytes: Annotated[int, Field(ge=1024, le=1_000_000)] = 32 * 1024
    """Payloads of at least this size go there. Many payloads of 32 KiB in one step are still within Temporal's
    limits, of 256 KiB they aren't."""
    max_bytes: Annotated[int, Field(ge=2_000_000, le=1_000_000_000)] = 64_000_000
    """The largest payload; a worker holds those of open runs in memory."""

    @field_validator("endpoint_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return _checked_url(value, "as the store's own tools expect it")

    @model_validator(mode="after")
    def _check_whole(self) -> "StorageTable":
        if self.driver == "local" and (self.bucket or self.endpoint_url or self.region):
            raise ValueError('has a bucket, which driver = "local" has no use for: give path')
        if self.driver != "local":
            if self.bucket is None:
                raise ValueError(f'needs bucket, with driver = "{self.driver}"')
            if self.path is not None:
                raise ValueError(f'has a path, which driver = "{self.driver}" has no use for')
        return self


_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class EncryptionTable(BaseModel):
    """Which key encrypts what Temporal keeps, from `[tool.perdure.encryption]`.

    Clients and workers of a namespace need the same. No key is here: they are in the environment, 32 bytes in
    base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    key_env: str
    """The name of the environment variable with the key that encrypts."""
    key_id: str = "default"
    """What that key is called, in the clear, in each payload."""
    old_keys: dict[str, str] = Field(default_factory=dict[str, str])
    """Keys that still decrypt: the variable of each, by its id."""

    @model_validator(mode="after")
    def _check_whole(self) -> "EncryptionTable":
        for variable in (self.key_env, *self.old_keys.values()):
            if not _VARIABLE.fullmatch(variable):
                raise ValueError(
                    "should name environment variables, in capitals, such as PERDURE_KEY; never a key itself"
                )
        for key_id in (self.key_id, *self.old_keys):
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError(f"has the key id {key_id!r}: letters, digits, '.', '_' and '-' alone, at most 64")
        if self.key_id in self.old_keys:
            raise ValueError(f"has the key {self.key_id!r} in old_keys too: give the new key an id of its own")
        return self


def _check_models(value: dict[str, PriceTable]) -> dict[str, PriceTable]:
    for name in value:
        provider, colon, model = name.partition(":")
        if not (provider and colon and model):
            raise ValueError(f'are of models, such as "openai:gpt-5-mini", and {name!r} is none')
    return value


class ApprovalTable(BaseModel):
    """Who must approve calls of some tools, from `[[tool.perdure.approvals]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tool: str = "*"
    """Names that it is for: `*` is any text, `?` any character."""
    decision: Literal["ask", "allow", "deny", "strict"] = "ask"
    group: str = ""
    """Whom a call waits for."""
    deadline_seconds: Duration | None = None
    """Time for a decision; no end when not set."""
    on_deadline: Literal["deny", "fail", "escalate"] = "deny"
    escalate_to: str = ""

    @model_validator(mode="after")
    def _check_rule(self) -> "ApprovalTable":
        try:
            check_rule(self.rule())
        except SettingsError as error:
            raise ValueError(error.message.removeprefix("approvals: ").rstrip(".")) from None
        return self

    def rule(self) -> ApprovalRule:
        """Return it as a run is pinned to it."""
        return ApprovalRule.model_validate(self.model_dump())


def _read_approvals(value: object) -> object:
    """Read `approvals = "strict"`, which may stand among tables too."""
    listed = ["strict"] if value == "strict" else value
    if not isinstance(listed, list | tuple):
        raise ValueError("should be 'strict', or tables [[tool.perdure.approvals]]")
    tables = cast("list[object]", listed)
    return tuple({"decision": "strict"} if each == "strict" else each for each in tables)


def _read_servers(value: object) -> object:
    """Read tables of the shape that MCP clients use; one error says which, and no value of it."""
    if not isinstance(value, dict):
        return value
    found: dict[str, MCPServer] = {}
    for name, table in cast("dict[str, object]", value).items():
        if not isinstance(table, dict | MCPServer):
            raise ValueError(f"{name} should be a table")
        try:
            is_read = isinstance(table, MCPServer)
            found[name] = table if is_read else MCPServer.read(name, cast("dict[str, Any]", table))
        except UserError as error:
            raise ValueError(error.message.rstrip(".")) from None
    return found


class Settings(ProductionSettings):
    """What the user configured; frozen. Make it with `Settings.resolve`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    app: str | None = None
    """`module:attribute` of the user's App."""
    task_queue: Annotated[str, Field(min_length=1, max_length=1000)] = "perdure"
    """The Task Queue of the worker, and the one that runs are started on."""
    state_dir: Annotated[Path, Field(strict=False)] = Path(".perdure")
    """Where the embedded server keeps its database and log; relative to the project folder."""
    max_concurrent_activities: Annotated[int, Field(ge=1)] = 500
    """Model and tool calls at once in a worker; they wait for the network most of the time."""
    max_concurrent_shared_calls: Annotated[int, Field(ge=1)] = 100
    """Calls at once in a worker that several runs share; they have slots of their own."""
    cache_scope: str = ""
    """Workers of different scopes share no results: for credentials that don't see the same data."""
    max_concurrent_workflow_tasks: Annotated[int, Field(ge=2)] = 40
    """Workflow tasks at once in a worker; Temporal needs two."""
    max_cached_workflows: Annotated[int, Field(ge=0)] = 500
    """Runs kept in a worker's memory: as many as have calls open. One that waits for days need not be: it is
    replayed when its next step is due."""
    message_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    """Messages kept in a worker's memory, in bytes."""
    grace_period: Annotated[Duration, AfterValidator(_check_not_negative), Field(alias="grace_period_seconds")] = (
        timedelta(seconds=600)
    )
    """How long a stopping worker lets calls finish; at least the longest model call, which is paid for."""
    heartbeat_timeout: Annotated[
        Duration, AfterValidator(_check_heartbeat), Field(alias="heartbeat_timeout_seconds")
    ] = timedelta(seconds=3)
    """How soon a dead worker's calls are given to another."""
    dev_port: Port = 7233
    """The embedded server's port; 0 is any free one."""
    dev_ui_port: Port = 8233
    """The port of its web UI; 0 is any free one."""
    ui_url: Annotated[str, AfterValidator(_check_ui_url)] | None = None
    """The address of Temporal's web UI, for links to runs; `perdure dev` knows its own."""
    scoreboard: str | None = None
    """The workflow id of the scoreboard, for apps that share one; one for each Task Queue when not set."""
    telemetry: TelemetryTable = TelemetryTable()
    """What traces tell; where they go is in OpenTelemetry's own variables."""
    json_logs: bool = False
    """Whether log lines are JSON."""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_read_level)
    ] = "INFO"
    """The least level that is logged."""
    providers: dict[str, ProviderTable] = Field(default_factory=dict[str, ProviderTable])
    """The user's providers, by the prefix of their models."""
    prices: Annotated[dict[str, PriceTable], AfterValidator(_check_models)] = Field(
        default_factory=dict[str, PriceTable]
    )
    """Prices over those that perdure knows, by model."""
    encryption: EncryptionTable | None = None
    """Which key encrypts what Temporal keeps; nothing is encrypted when not set."""
    storage: StorageTable | None = None
    """Where large payloads are kept; in Event History, which takes 2 MB, when not set."""
    mcp: Annotated[dict[str, MCPServer], BeforeValidator(_read_servers)] = Field(
        default_factory=dict[str, MCPServer]
    )
    """MCP servers by name, over those of the App."""
    approval_tables: Annotated[
        tuple[ApprovalTable, ...], BeforeValidator(_read_approvals), Field(alias="approvals", strict=False)
    ] = ()
    """Who must approve which tool calls, before the App's rules; `"strict"` asks for all but read-only ones."""
    project_dir: Annotated[Path, Field(strict=False)] = Path()
    """The folder of the pyproject.toml with `[tool.perdure]`, else the working directory. Found, not set."""

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        queues = {f"providers.{name}.task_queue": queue for name, queue in self.provider_queues().items()}
        queues |= {name: getattr(self, name) or "" for name in ("model_task_queue", "tool_task_queue")}
        taken = {self.task_queue}
        for key, queue in queues.items():
            if queue in taken:
                raise PydanticCustomError("queue_taken", QUEUE_TAKEN, {"key": key, "queue": queue})
            taken |= {queue} if queue else set()
        fault = self.worker_faults(self.provider_queues())
        if fault is not None:
            raise PydanticCustomError("together", "{fault}", {"key": fault[0], "fault": fault[1]})
        return self

    @property
    def approvals(self) -> tuple[ApprovalRule, ...]:
        """The rules for approvals, in order."""
        return tuple(table.rule() for table in self.approval_tables)

    def provider_queues(self) -> dict[str, str]:
        """Return the Task Queue of each provider that has one of its own."""
        return {name: table.task_queue for name, table in self.providers.items() if table.task_queue}

    @classmethod
    def resolve(
        cls,
        *,
        flags: Mapping[str, Any] = MappingProxyType({}),
        environ: Mapping[str, str] | None = None,
        start: Path | None = None,
    ) -> "Resolved":
        """Find the value of every setting.

        Args:
            flags: What the command line gave, by setting; None is not given. Durations may be timedeltas.
            environ: The environment; the process's own by default.
            start: Where the search for pyproject.toml starts; the working directory by default.

        Returns:
            The settings, and of each its source.

        Raises:
            SettingsError: A file, key or value that can't be used. Not retryable.
        """
        start = (start or Path.cwd()).absolute()
        environ = os.environ if environ is None else environ
        file, table = _find_table(start)
        project_dir = file.parent if file else start
        values, sources = _collect(_given(flags), environ, table, f"{file} {_TABLE}")
        try:
            settings = cls.model_validate({**values, "project_dir": project_dir})
        except ValidationError as error:
            raise _explain(error, values, sources) from None
        state_dir = project_dir / settings.state_dir.expanduser()
        known = {_variable(key) for key in _KEYS}
        return Resolved(
            settings=settings.model_copy(update={"state_dir": state_dir}),
            sources={name: sources[key] for key, name in _KEYS.items()},
            ignored=tuple(sorted(k for k in environ if k.startswith("PERDURE_") and k not in known)),
        )


@dataclass(frozen=True)
class Resolved:
    """The settings and where they came from."""

    settings: Settings
    sources: Mapping[str, str]
    """By attribute of `settings`: `flag --…`, `environment PERDURE_…`, `FILE [tool.perdure]` or `default`."""
    ignored: tuple[str, ...] = ()
    """`PERDURE_*` variables that name no setting; other parts of perdure may read them."""


def _fields() -> dict[str, tuple[str, FieldInfo]]:
    inherited = ProductionSettings.model_fields
    ordered = [*(set_here for set_here in Settings.model_fields if set_here not in inherited), *inherited]
    fields = {Settings.model_fields[name].alias or name: (name, Settings.model_fields[name]) for name in ordered}
    del fields["project_dir"]
    return fields


_FIELDS = _fields()
_KEYS = {key: name for key, (name, _) in _FIELDS.items()}
"""The attribute of each key that the environment and the file know."""
_TABLES: Mapping[str, type[BaseModel]] = {
    "providers": ProviderTable,
    "prices": PriceTable,
    "encryption": EncryptionTable,
    "storage": StorageTable,
    "approvals": ApprovalTable,
    "mcp": MCPServer,
    "telemetry": TelemetryTable,
}
"""Settings that are tables, which no variable can hold."""
_FLAGS = {"dev_port": "--port", "dev_ui_port": "--ui-port", "json_logs": "--log-format"}
"""Flags that aren't called like their setting."""


def _variable(key: str) -> str:
    return f"PERDURE_{key.upper()}"


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that were given, by key; a flag may also go by its attribute."""
    keys = {name: key for key, name in _KEYS.items()}
    given = {keys.get(name, name): value for name, value in flags.items() if value is not None}
    for key in given.keys() - _KEYS.keys():
        raise SettingsError(f"No setting is called {key!r}.{suggest(key, _KEYS)}", key=key)
    return given


def _collect(
    flags: Mapping[str, Any], environ: Mapping[str, str], table: Mapping[str, Any], file: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the value of each key that has one, and the source of all."""
    for key in table:
        _check_key(key, _KEYS, file)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, (_, field) in _FIELDS.items():
        variable = _variable(key)
        if key in flags:
            values[key] = flags[key]
            sources[key] = f"flag {_FLAGS.get(key, '--' + key.replace('_', '-'))}"
        elif key not in _TABLES and environ.get(variable):
            values[key] = _from_text(environ[variable], field)
            sources[key] = f"environment {variable}"
        elif key in table:
            values[key] = table[key]
            sources[key] = file
        else:
            sources[key] = "default"
    return values, sources


def _from_text(text: str, field: FieldInfo) -> object:
    """Return `text` as the field's type, or as it is if it can't be: the validation then says so."""
    if field.annotation is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    read = {int: int, timedelta: float}.get(cast("Any", field.annotation), str)
    try:
        return read(text)
    except ValueError:
        return text


def _find_table(start: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the nearest pyproject.toml with a `[tool.perdure]`, and that table."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            tool: Any = tomllib.loads(file.read_text(encoding="utf-8")).get("tool")
        except (OSError, ValueError) as error:
            raise SettingsError(f"Can't read {file}: {error}", file=str(file)) from None
        if isinstance(tool, dict) and "perdure" in tool:
            table = cast("dict[str, Any]", tool)["perdure"]
            if not isinstance(table, dict):
                raise SettingsError(f"{file}: tool.perdure should be a table: {_TABLE}.", file=str(file))
            return file, cast("dict[str, Any]", table)
    return None, {}


def _check_key(key: str, known: Mapping[str, Any], where: str) -> None:
    if key in known:
        return
    if _SECRET.search(key):
        raise SettingsError(
            f"{where}: {key!r} looks like a secret, which doesn't belong in a file: put it into the"
            " environment of the worker and name its variable in a provider's api_key_env.",
            file=where,
            key=key,
        )
    raise SettingsError(f"{where}: there is no setting {key!r}.{suggest(key, known)}", file=where, key=key)


def _explain(error: ValidationError, values: Mapping[str, Any], sources: Mapping[str, str]) -> SettingsError:
    """Return a problem in one line: the source, the key, and what it should be.

    Unknown keys come first, since one of them may be a misspelt required key, or a secret.
    """
    problems = error.errors(include_url=False)
    first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    path = [str(part) for part in first["loc"]]
    if not path:  # of several settings together
        source = sources[first["ctx"]["key"].partition(".")[0]] if "ctx" in first else ""
        return SettingsError(f"{source}: {first['msg']}.", source=source)
    key, source = path[0], sources[path[0]]
    if first["type"] == "extra_forbidden":
        try:
            _check_key(path[-1], _TABLES[key].model_fields, f"{source}, {'.'.join(path[:-1])}")
        except SettingsError as unknown:
            return unknown
    problem = _PROBLEMS.get(first["type"]) or first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    was = "" if key in _TABLES else f"; it is {values[key]!r}"
    return SettingsError(f"{source}: {'.'.join(path)} {problem}{was}.", source=source, key=".".join(path))


_PROBLEMS = {
    "missing": "is missing",
    "path_type": "should be a path",
    "dict_type": "should be a table",
    "model_type": "should be a table",
}
