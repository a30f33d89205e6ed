"""What `perdure doctor` checks. It starts no run, and leaves nothing behind unless told to fix."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

import perdure
from perdure._production import show
from perdure._search_attributes import add_search_attributes, existing_search_attributes
from perdure.app import App
from perdure.cli._context import Project, local_address, open_client, resolve
from perdure.cli._errors import PROJECT, describe
from perdure.client import pollers
from perdure.client._fairness import is_fair
from perdure.contracts.names import SEARCH_ATTRIBUTES
from perdure.encryption import encryption_codec
from perdure.errors import PerdureError
from perdure.project import load_app
from perdure.settings import Resolved, Settings
from perdure.telemetry.environment import metrics_config, traces_exporter
from perdure.wiring import all_workflows, make_providers, sandboxed_runner

Status = Literal["ok", "note", "warning", "problem"]


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    section: str
    name: str
    status: Status
    value: str = ""
    source: str = ""
    """Where a setting came from."""
    remedy: str = ""
    exit_code: int = 0


class Doctor:
    """Looks at everything, and goes on after a problem.

    Attributes:
        findings: In the order of the report.
    """

    def __init__(self, *, is_fixing: bool, **flags: Any) -> None:
        """Look at nothing yet."""
        self.findings: list[Finding] = []
        self._is_fixing = is_fixing
        self._flags = flags

    @property
    def exit_code(self) -> int:
        """That of the worst problem; 0 without one."""
        return max((each.exit_code for each in self.findings), default=0)

    async def examine(self) -> None:
        """Look at settings, app, workflows, providers and server."""
        for name in ("perdure", "temporalio"):
            self._note("Versions", name, perdure.__version__ if name == "perdure" else version(name))
        self._note("Versions", "python", platform.python_version())
        settings = self._settings()
        self._temporal_settings(settings)
        app = self._app(settings)
        self._workflows(app)
        self._providers(app, settings)
        self._telemetry(settings)
        self._encryption(settings)
        await self._server(settings)

    def _settings(self) -> Settings:
        try:
            resolved = resolve(**self._flags)
        except PerdureError as error:
            self._problem("Settings", "settings", error)
            return Settings()
        for name, value, source in _values(resolved):
            self._note("Settings", name, value, source=source)
        for variable in resolved.ignored:
            if variable not in _KNOWN_VARIABLES:
                self._add("Settings", variable, "warning", "names no setting", remedy="Is it misspelt?")
        return resolved.settings

    def _temporal_settings(self, settings: Settings) -> None:
        try:
            config: Mapping[str, Any] = ClientConfig.load_client_connect_config()
        except (RuntimeError, OSError, ValueError) as error:
            self._add(
                "Temporal's settings", "configuration", "problem", str(error).partition("\n")[0], code=PROJECT
            )
            return
        source = "Temporal's environment or profile"
        here = local_address(settings)
        unset = {"target_host": here or "localhost:7233", "namespace": "default"}
        for key, value in unset.items():
            where = source if key in config else "this project's embedded server" if value == here else "default"
            self._note("Temporal's settings", _TEMPORAL_NAMES[key], str(config.get(key, value)), source=where)
        for key in ("tls", "api_key"):
            self._note("Temporal's settings", _TEMPORAL_NAMES[key], "set" if config.get(key) else "not set")

    def _app(self, settings: Settings) -> App | None:
        try:
            app = load_app(settings.app, settings.project_dir)
        except PerdureError as error:
            self._problem("App", settings.app or "app", error)
            return None
        self._add("App", settings.app or "app", "ok", "can be imported")
        self._note("App", "agents", ", ".join(app.agents) or "none")
        self._note("App", "workflows", ", ".join(app.workflows) or "none of its own")
        return app

    def _workflows(self, app: App | None) -> None:
        """Load each workflow that a worker registers as it would, in the sandbox."""
        for cls in all_workflows(app or App()):
            definition = workflow._Definition.must_from_class(cls)  # pyright: ignore[reportPrivateUsage]
            name = definition.name or cls.__name__
            try:
                sandboxed_runner().prepare_workflow(definition)
            except Exception as error:  # user code may raise anything
                self._add("Workflows", name, "problem", _first_line(error), remedy=_SANDBOX_REMEDY, code=PROJECT)
            else:
                aside = "" if definition.sandboxed else "; it runs outside of it"
                self._add("Workflows", name, "ok", f"loads in the sandbox{aside}")

    def _providers(self, app: App | None, settings: Settings) -> None:
        try:
            providers = make_providers(app or App(), settings)
        except PerdureError as error:
            self._problem("Providers", "providers", error)
            return
        agents = app.agents.values() if app else ()
        used = {model.partition(":")[0]: agent.name for agent in agents for model in agent.models}
        for name, agent in used.items():
            if name not in providers.names():
                remedy = f"Set it up in [tool.perdure.providers.{name}]."
                self._add(
                    "Providers", name, "problem", f"unknown; agent {agent!r} needs it", remedy=remedy, code=PROJECT
                )
        for status in providers.status():
            if status.key_env is None:
                self._note("Providers", status.name, "needs no key")
            elif status.key_set == "yes":
                self._add("Providers", status.name, "ok", f"{status.key_env} is set")
            elif status.name in used:
                value = f"{status.key_env} isn't set here; agent {used[status.name]!r} needs it on the worker"
                self._add("Providers", status.name, "warning", value)
            else:
                self._note("Providers", status.name, f"{status.key_env} isn't set; no agent needs it")

    def _telemetry(self, settings: Settings) -> None:
        """Say where a worker with this environment sends traces and metrics."""
        try:
            traces, metrics = traces_exporter(os.environ), metrics_config(os.environ, settings.metrics_address)
        except PerdureError as error:
            self._problem("Telemetry", "OpenTelemetry", error)
            return
        self._note("Telemetry", "traces", "nowhere" if traces == "none" else f"by {traces}")
        where = "nowhere" if metrics is None else "by otlp"
        if settings.metrics_address is not None:
            where = f"to Prometheus, at {settings.metrics_address}"
        self._note("Telemetry", "metrics", where)

    def _encryption(self, settings: Settings) -> None:
        """Say which keys are here; a worker without the first encrypts nothing, and without the others waits."""
        try:
            codec = encryption_codec(settings)
        except PerdureError as error:
            self._problem("Encryption", "encryption", error)
            return
        if codec is None:
            self._note("Encryption", "payloads", "not encrypted")
            return
        for key in codec.keys.states:
            use = "encrypts" if key.is_primary else "decrypts"
            if not key.problem:
                self._add("Encryption", f"key {key.id}", "ok", f"{use}; {key.variable} is set")
                continue
            status: Status = "problem" if key.is_primary else "warning"
            remedy = "Runs that need it wait for a worker that has it."
            value, code = f"{key.variable} {key.problem}", PROJECT if key.is_primary else 0
            self._add("Encryption", f"key {key.id}", status, value, remedy=remedy, code=code)

    async def _server(self, settings: Settings) -> None:
        try:
            client = (await open_client(Project(settings, None))).temporal
            info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
        except (PerdureError, RPCError) as error:
            self._problem("Server", "Temporal", error)
            return
        where = local_address(settings) or client.service_client.config.target_host
        self._add("Server", "Temporal", "ok", f"{where} answers, version {info.server_version}")
        try:
            await self._attributes(client)
            await self._fairness(client)
            await self._pollers(client, settings.task_queue)
        except RPCError as error:
            self._problem("Server", "Temporal", error)

    async def _attributes(self, client: Client) -> None:
        missing = sorted(SEARCH_ATTRIBUTES.keys() - await existing_search_attributes(client))
        if missing and self._is_fixing:
            added = await add_search_attributes(client)
            self._add("Server", "search attributes", "ok", f"registered {', '.join(added)}")
            missing = sorted(set(missing) - set(added))
        elif not missing:
            self._add("Server", "search attributes", "ok", f"all {len(SEARCH_ATTRIBUTES)} are registered")
        if missing:
            value = f"not registered, or of another type: {', '.join(missing)}"
            remedy = "Runs work without them, but can't be found by them: `perdure doctor --fix` registers them."
            self._add("Server", "search attributes", "warning", value, remedy=remedy)

    async def _fairness(self, client: Client) -> None:
        """Try it out: no API tells whether it is on, and what a server was started with is not all that holds."""
        found = await is_fair(client)
        if found:
            self._add("Server", "fairness", "ok", "on: a tenant's run doesn't wait behind another's backlog")
        elif found is None:
            self._note("Server", "fairness", "unknown: this server has no standalone activities to try it with")
        else:
            remedy = "Set matching.enableFairness in the server's dynamic configuration."
            value = "off: runs of a tenant wait behind another's backlog"
            self._add("Server", "fairness", "warning", value, remedy=remedy)

    async def _pollers(self, client: Client, task_queue: str) -> None:
        found = sorted(await pollers(client, task_queue))
        name = f"Task Queue {task_queue}"
        if found:
            self._add("Server", name, "ok", f"polled by {', '.join(found[:5])}{' …' if len(found) > 5 else ''}")
        else:
            self._add("Server", name, "warning", "no worker polls it", remedy="Start one with `perdure worker`.")

    def _add(
        self,
        section: str,
        name: str,
        status: Status,
        value: str,
        *,
        remedy: str = "",
        code: int = 0,
        source: str = "",
    ) -> None:
        finding = Finding(
            section=section,
            name=name,
            status=status,
            value=value,
            source=source,
            remedy=remedy,
            exit_code=code,
        )
        self.findings.append(finding)

    def _note(self, section: str, name: str, value: str, *, source: str = "") -> None:
        self._add(section, name, "note", value, source=source)

    def _problem(self, section: str, name: str, error: Exception) -> None:
        code, message = describe(error)
        self._add(section, name, "problem", message, code=code)


_TEMPORAL_NAMES = {"target_host": "address", "namespace": "namespace", "tls": "TLS", "api_key": "API key"}
_KNOWN_VARIABLES = ("PERDURE_DEBUG",)
_SANDBOX_REMEDY = (
    "Import what isn't deterministic in activities and tools only, or within"
    " `with workflow.unsafe.imports_passed_through():`."
)


def _values(resolved: Resolved) -> list[tuple[str, str, str]]:
    """Return name, value and source of each setting; none of them is a secret."""
    settings = resolved.settings
    found = [("project_dir", str(settings.project_dir), "found")]
    for name, source in resolved.sources.items():
        value: Any = getattr(settings, name)
        if isinstance(value, timedelta):
            name, value = f"{name}_seconds", f"{value.total_seconds():g}"
        elif name in ("providers", "prices"):
            value = json.dumps({key: table.model_dump(exclude_none=True) for key, table in value.items()})
        elif isinstance(value, BaseModel):
            value = value.model_dump_json(exclude_none=True)
        found.append((name, show(value), source))
    return found


def _first_line(error: BaseException) -> str:
    """Return the innermost reason: the SDK wraps what the user's module raised."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
