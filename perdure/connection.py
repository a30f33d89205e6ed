"""Connect to Temporal. Client side: what the CLI, the worker and a user's service do first.

Where to and how is Temporal's own configuration, unchanged: `TEMPORAL_*` variables and profiles, as the
`temporal` command line reads them. This module bounds the time and says in one line what went wrong.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cache

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, Interceptor, Plugin
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    OpenTelemetryConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode

from perdure.errors import ServerUnreachableError, SettingsError

_DEFAULT_ADDRESS = "localhost:7233"
_REFUSED = (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED)


async def connect(
    *,
    plugins: Sequence[Plugin] = (),
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
    address: str | None = None,
    origin: str = "the address given",
    converter: DataConverter = pydantic_data_converter,
    timeout: timedelta = timedelta(seconds=8),
) -> Client:
    """Return a client of a server that answers and has the namespace.

    Args:
        plugins: Temporal plugins; they may change the data converter, which is the pydantic one.
        interceptors: Temporal client interceptors.
        runtime: Temporal's runtime, for its metrics and logs; when None one that logs by Python's `logging`.
        address: A plain local server, such as the embedded one; Temporal's configuration is then left aside.
        origin: What an error says of where `address` came from.
        converter: What encodes payloads and keeps large ones (`perdure.storage.opening.data_converter`); the same
            as the workers have.
        timeout: For all of it.

    Raises:
        SettingsError: Temporal's configuration can't be read. Not retryable.
        ServerUnreachableError: Nothing answers, or it refuses us. Retryable, but for the latter.
    """
    if address is None:
        config = _load_config()
        origin = _origin(is_configured="target_host" in config)
    else:
        config = ClientConnectConfig(target_host=address)
    where = f"{config.setdefault('target_host', _DEFAULT_ADDRESS)} ({origin})"
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            client = await Client.connect(
                **config,
                plugins=plugins,
                interceptors=interceptors,
                runtime=runtime or logging_runtime(),
                data_converter=converter,
            )
            await _check_namespace(client)
    except TimeoutError:
        raise _unreachable(where, f"no answer within {timeout.total_seconds():g} s") from None
    except RPCError as error:
        raise _refused(error, where, config) from error
    except (RuntimeError, ValueError) as error:
        raise _unreachable(where, _name_problem(str(error), config)) from error
    return client


@cache
def logging_runtime() -> Runtime:
    """Return the process's runtime whose log goes to Python's `logging`."""
    return make_runtime(None)


def make_runtime(metrics: OpenTelemetryConfig | PrometheusConfig | None) -> Runtime:
    """Return a runtime whose log goes to Python's `logging`, and its metrics where that says.

    Temporal's default writes to stdout, such as a warning of every large payload, in the middle of a result.

    Raises:
        SettingsError: Metrics can't be offered, or sent, there. Not retryable.
    """
    log = LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
        forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio")),
    )
    try:
        return Runtime(telemetry=TelemetryConfig(logging=log, metrics=metrics))
    except (RuntimeError, ValueError) as error:
        if metrics is None:
            raise
        where = metrics.bind_address if isinstance(metrics, PrometheusConfig) else metrics.url
        problem = str(error).partition("\n")[0]
        raise SettingsError(f"Metrics can't go to {where}: {problem}. Choose another address.") from None


def _load_config() -> ClientConnectConfig:
    """Read Temporal's configuration; its errors may quote the file, so only their first line is told."""
    try:
        return ClientConfig.load_client_connect_config()
    except (RuntimeError, OSError, ValueError) as error:
        problem = str(error).partition("\n")[0]
        raise SettingsError(
            f"Temporal's configuration can't be used: {problem}. See TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE"
            " and `temporal config list`."
        ) from None


def _origin(*, is_configured: bool) -> str:
    if not is_configured:
        return "the default; TEMPORAL_ADDRESS isn't set"
    if os.environ.get("TEMPORAL_ADDRESS"):
        return "from TEMPORAL_ADDRESS"
    return f"from the profile {os.environ.get('TEMPORAL_PROFILE') or 'default'!r}"


async def _check_namespace(client: Client) -> None:
    await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), retry=True
    )


def _unreachable(where: str, problem: str) -> ServerUnreachableError:
    return ServerUnreachableError(
        f"Can't reach Temporal at {where}: {problem}. Start the embedded server with `perdure dev`, or set"
        " TEMPORAL_ADDRESS to yours."
    )


def _refused(error: RPCError, where: str, config: ClientConnectConfig) -> ServerUnreachableError:
    if error.status is RPCStatusCode.NOT_FOUND:
        namespace = config.get("namespace", "default")
        return ServerUnreachableError(
            f"Temporal at {where} has no namespace {namespace!r}: set TEMPORAL_NAMESPACE, or create it with"
            f" `temporal operator namespace create -n {namespace}`.",
            is_retryable=False,
        )
    if error.status in _REFUSED:
        return ServerUnreachableError(
            f"Temporal at {where} refused the credentials: {error.message}. Check TEMPORAL_API_KEY or the"
            " client certificate, and TEMPORAL_NAMESPACE.",
            is_retryable=False,
        )
    return _unreachable(where, error.message or error.status.name)


_PROBLEMS = (
    ("Connection refused", "nothing listens there"),
    ("dns error", "the host name can't be resolved"),
    ("InvalidContentType", "it doesn't speak TLS, which TEMPORAL_TLS, a profile or an API key asks for"),
    ("NotValidForName", "its TLS certificate is for another name: set TEMPORAL_TLS_SERVER_NAME"),
    ("InvalidCertificate", "its TLS certificate isn't trusted: set TEMPORAL_TLS_SERVER_CA_CERT_PATH"),
    ("PrivateKeyParseError", "the client's TLS key can't be used: see TEMPORAL_TLS_CLIENT_KEY_PATH"),
    ("CertificateParseError", "a TLS certificate of the configuration can't be used"),
    ("AlertReceived", "it broke TLS off: check the client certificate"),
    ("Transport, hyper::Error", "what listens there isn't a Temporal server, or it wants TLS"),
    ("Unauthenticated", "it refused the credentials: check TEMPORAL_API_KEY or the client certificate"),
    ("PermissionDenied", "it refused the credentials: check TEMPORAL_API_KEY or the client certificate"),
    ("invalid target URL", "the address can't be used: write host:port"),
)
"""What the errors of the SDK's Rust core mean, by a part of their text."""


def _name_problem(text: str, config: ClientConnectConfig) -> str:
    known = next((meaning for part, meaning in _PROBLEMS if part in text), None)
    if known is not None:
        return known
    return text.removeprefix("Failed client connect: ").replace(config.get("api_key") or "\0", "***")
