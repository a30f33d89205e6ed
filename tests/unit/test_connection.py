"""Connecting: what can't be reached is told within the time, and how."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.service import RPCError, RPCStatusCode

from perdure.connection import _name_problem, _refused, connect
from perdure.errors import ServerUnreachableError, SettingsError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in os.environ:
        if key.startswith("TEMPORAL_"):
            monkeypatch.delenv(key)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that accepts and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """The address of something that speaks HTTP/1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=_answer, args=(server,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _answer(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with closing(client):
            client.recv(1000)
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")


def free_address() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def failure(timeout: float = 5) -> ServerUnreachableError:
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError) as caught:
        await connect(timeout=timedelta(seconds=timeout))
    assert time.monotonic() - started < timeout + 1
    assert "\n" not in caught.value.message
    return caught.value


async def test_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_address()
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    error = await failure()
    assert f"{address} (from TEMPORAL_ADDRESS): nothing listens there" in error.message
    assert "`perdure dev`" in error.message
    assert not error.non_retryable


async def test_the_profile_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = free_address()
    (tmp_path / "temporal.toml").write_text(
        f'[profile.default]\naddress = "{address}"\n[profile.prod]\naddress = "{address}"\n'
    )
    assert f"{address} (from the profile 'default')" in (await failure()).message
    monkeypatch.setenv("TEMPORAL_PROFILE", "prod")
    assert f"{address} (from the profile 'prod')" in (await failure()).message


async def test_an_address_given_leaves_the_configuration_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "nosuch")
    with pytest.raises(ServerUnreachableError, match="the address given"):
        await connect(address=free_address())


async def test_silence_ends_in_time(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", silent)
    assert "no answer within 0.5 s" in (await failure(timeout=0.5)).message


async def test_not_a_temporal_server(monkeypatch: pytest.MonkeyPatch, web: str) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", web)
    assert "isn't a Temporal server" in (await failure()).message


async def test_tls_where_there_is_none(monkeypatch: pytest.MonkeyPatch, web: str) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", web)
    monkeypatch.setenv("TEMPORAL_API_KEY", "hunter2")
    error = await failure()
    assert "doesn't speak TLS" in error.message
    assert "hunter2" not in str(error)


async def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "not a host")
    assert "write host:port" in (await failure()).message


async def test_an_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "nosuch")
    with pytest.raises(SettingsError, match="Profile 'nosuch' not found"):
        await connect()


async def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "temporal.toml").write_text("[profile.default]\napi_key = hunter2\n")
    with pytest.raises(SettingsError, match="TOML parse error at line 2") as caught:
        await connect()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_missing_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "gone.pem"))
    with pytest.raises(SettingsError, match=r"gone\.pem"):
        await connect()


@pytest.mark.parametrize("status", [RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED])
def test_refused_credentials(status: RPCStatusCode) -> None:
    error = _refused(RPCError("Request unauthorized.", status, b""), "there", {})
    assert "there refused the credentials: Request unauthorized." in error.message
    assert "TEMPORAL_API_KEY" in error.message
    assert error.non_retryable


def test_a_server_that_is_not_ready_is_retryable() -> None:
    error = _refused(RPCError("shard status unknown", RPCStatusCode.UNAVAILABLE, b""), "there", {})
    assert "shard status unknown" in error.message
    assert not error.non_retryable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error: InvalidCertificate(UnknownIssuer)", "TEMPORAL_TLS_SERVER_CA_CERT_PATH"),
        ("InvalidCertificate(NotValidForName)", "TEMPORAL_TLS_SERVER_NAME"),
        ("tonic::transport::Error(Transport, PrivateKeyParseError)", "TEMPORAL_TLS_CLIENT_KEY_PATH"),
        ("Failed client connect: odd header hunter2", "odd header ***"),
    ],
)
def test_errors_of_the_core_are_named(text: str, said: str) -> None:
    problem = _name_problem(text, {"api_key": "hunter2"})
    assert said in problem
    assert "hunter2" not in problem
