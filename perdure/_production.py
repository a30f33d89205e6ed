"""How workers run in production: slots, queues, versions and addresses; a part of `Settings`. Wiring side."""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer

Work = Literal["workflows", "models", "tools"]
ALL_WORK: tuple[Work, ...] = ("workflows", "models", "tools")
_LOOPBACK = "127.0.0.1"

QueueName = Annotated[str, Field(min_length=1, max_length=1000)]


class Address(NamedTuple):
    """Where a worker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `host:port`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_host(text: str) -> str:
    """Return the IP address of a host that is one, or `localhost`; raises ValueError for any other."""
    return str(ipaddress.ip_address(_LOOPBACK if text == "localhost" else text))


def _read_address(value: object) -> object:
    """Take `PORT`, `HOST:PORT` or `[IPv6]:PORT`; the host is the loopback when not given."""
    if isinstance(value, Address) or value is None:
        return value
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or _LOOPBACK
    if not (port.isdecimal() and port.isascii() and int(port) <= 65535):
        raise ValueError("should be PORT or HOST:PORT")
    try:
        host = read_host(host)
    except ValueError:
        raise ValueError("should be PORT or HOST:PORT, with an IP address as the host") from None
    return Address(host, int(port))


def _read_work(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _check_work(value: tuple[Work, ...]) -> tuple[Work, ...]:
    if not value:
        raise ValueError("should name at least one of workflows, models, tools")
    return tuple(work for work in ALL_WORK if work in value)


ListenAddress = Annotated[Address | None, BeforeValidator(_read_address), PlainSerializer(str)]
Share = Annotated[float, Field(gt=0, le=1, strict=False)]


class ProductionSettings(BaseModel):
    """What is set of a worker beyond its sizes."""

    serve: Annotated[
        tuple[Work, ...], BeforeValidator(_read_work), AfterValidator(_check_work), Field(strict=False)
    ] = ALL_WORK
    """The kinds of work that this worker takes, of workflows, models and tools."""
    model_task_queue: QueueName | None = None
    """A Task Queue of its own for model calls of providers that have none; with the workflows when not set."""
    tool_task_queue: QueueName | None = None
    """A Task Queue of its own for tool calls; with the workflows when not set."""
    tuner: Literal["fixed", "resource"] = "fixed"
    """Whether slots are as many as was set, or up to that while CPU and memory last."""
    target_cpu: Share = 0.8
    """The part of the machine's CPU up to which the tuner hands out slots."""
    target_memory: Share = 0.8
    """The part of its memory, likewise."""
    pollers: Literal["fixed", "auto"] = "fixed"
    """Whether a worker keeps five polls of each kind open, or as many as the server's backlog asks for."""
    deployment_name: QueueName | None = None
    """The Worker Deployment that this worker belongs to; together with `build_id`."""
    build_id: QueueName | None = None
    """The version of the code, in its deployment."""
    versioning: Literal["auto_upgrade", "pinned"] = "auto_upgrade"
    """What a new version means for open runs: they move to it, or stay with the version they started on."""
    health_address: ListenAddress = None
    """Where the worker answers /live and /ready: PORT or HOST:PORT. Nowhere when not set."""
    metrics_address: ListenAddress = None
    """Where the worker offers its metrics to Prometheus, at /metrics. Nowhere when not set."""

    def worker_faults(self, provider_queues: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the key and the fault of settings that don't go together; None if they do."""
        if (self.deployment_name is None) != (self.build_id is None):
            given, missing = ("deployment_name", "build_id")
            if self.deployment_name is None:
                given, missing = missing, given
            return given, f"{given} needs {missing}"
        if "workflows" in self.serve:
            return None
        if "models" in self.serve and not (self.model_task_queue or provider_queues):
            return (
                "serve",
                "serve: models without workflows needs model_task_queue, or a provider with a task_queue",
            )
        if "tools" in self.serve and self.tool_task_queue is None:
            return "serve", "serve: tools without workflows needs tool_task_queue"
        return None


def show(value: Any) -> str:
    """Return a value as it would be set."""
    if isinstance(value, tuple) and not isinstance(value, Address):
        return ", ".join(str(each) for each in cast("tuple[object, ...]", value))
    return str(value)
