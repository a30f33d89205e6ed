"""The codec, its keys, and the server that decodes for the web UI; no Temporal."""

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadCodec

from perdure._production import Address
from perdure.codec_server import CodecServer
from perdure.encryption import (
    ChainedCodec,
    EncryptedFailureConverter,
    EncryptionCodec,
    KeyRing,
    check_keys,
    reveal_failure,
    with_encryption,
)
from perdure.errors import EncryptionError, SettingsError
from perdure.settings import EncryptionTable, Settings
from perdure.storage.opening import data_converter

KEYS = {"NEW": base64.b64encode(b"n" * 32).decode(), "OLD": base64.b64encode(b"o" * 32).decode()}
ORIGIN = "http://localhost:8233"


def ring(environ: dict[str, str] = KEYS, **table: Any) -> KeyRing:
    made = EncryptionTable.model_validate({"key_env": "NEW", "key_id": "new", "old_keys": {"old": "OLD"}, **table})
    return KeyRing(made, lambda name: environ.get(name, ""))


def codec(environ: dict[str, str] = KEYS, **table: Any) -> EncryptionCodec:
    return EncryptionCodec(ring(environ, **table))


@pytest.mark.parametrize("size", [0, 10, 2_000_000])
async def test_what_goes_in_comes_out(size: int) -> None:
    payload = Payload(metadata={"encoding": b"json/plain", "x": b"y"}, data=b"zebra" * size)
    (sent,) = await codec().encode([payload])
    assert b"zebra" not in sent.SerializeToString()
    assert sent.metadata["encryption-key-id"] == b"new"
    assert await codec().encode([sent]) == [sent], "once is enough"
    assert await codec().decode([sent, payload]) == [payload, payload]
    assert (await codec().encode([payload]))[0].data != sent.data, "no nonce comes twice"


async def test_an_old_key_still_decrypts() -> None:
    payload = Payload(data=b"zebra")
    sent = await codec(key_env="OLD", key_id="old", old_keys={}).encode([payload])
    assert await codec().decode(sent) == [payload]
    with pytest.raises(EncryptionError, match=r"the key 'old', which .* doesn't name"):
        await codec(old_keys={}).decode(sent)


async def test_a_key_that_is_not_here_is_told_and_is_no_failure_of_a_run(caplog: pytest.LogCaptureFixture) -> None:
    sent = await codec().encode([Payload(data=b"zebra")])
    lacking = codec({})
    for _ in range(2):
        with pytest.raises(EncryptionError, match="needs the key 'new', and NEW isn't set here") as caught:
            await lacking.decode(sent)
        assert not caught.value.non_retryable, "a non-retryable one would fail the run"
    assert caplog.text.count("Runs that need it wait") == 1
    with pytest.raises(EncryptionError):
        await lacking.encode([Payload()])
    with pytest.raises(SettingsError, match="key_env: NEW isn't set here"):
        check_keys(with_encryption(pydantic_data_converter, lacking))
    check_keys(with_encryption(pydantic_data_converter, codec()))
    check_keys(pydantic_data_converter)


async def test_another_key_or_a_changed_payload_is_told() -> None:
    (sent,) = await codec().encode([Payload(data=b"zebra")])
    swapped = {"NEW": KEYS["OLD"], "OLD": KEYS["NEW"]}
    with pytest.raises(EncryptionError, match="another key has that id"):
        await codec(swapped).decode([sent])
    sent.data = sent.data[:-1]
    with pytest.raises(EncryptionError, match="was changed"):
        await codec().decode([sent])
    sent.data = b""
    with pytest.raises(EncryptionError):
        await codec().decode([sent])


async def test_a_key_that_comes_later_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sent,) = await codec().encode([Payload(data=b"zebra")])
    monkeypatch.setenv("NEW_FILE", str(tmp_path / "key"))
    later = EncryptionCodec(KeyRing(EncryptionTable(key_env="NEW", key_id="new")))
    with pytest.raises(EncryptionError):
        await later.decode([sent])
    (tmp_path / "key").write_text(KEYS["NEW"] + "\n")
    assert await later.decode([sent]) == [Payload(data=b"zebra")]


@pytest.mark.parametrize(
    ("value", "problem"), [("", "isn't set"), ("é!", "no base64"), ("AAAA", "has 3 bytes rather than 32")]
)
def test_a_key_of_another_form_is_told_without_it(value: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        ring({"NEW": value}).check()
    assert not value or value not in caught.value.message


def test_no_key_is_in_a_repr() -> None:
    told = repr(ring()) + repr(codec().keys)
    assert all(key not in told for key in (*KEYS.values(), "n" * 32, "o" * 32))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("key_id = 'x'", "key_env is missing"),
        ("key_env = 'c2VjcmV0'", "name environment variables"),
        ("key_env = 'NEW'\nkey_id = 'a b'", "letters, digits"),
        ("key_env = 'NEW'\nkey_id = 'x'\nold_keys = {x = 'OLD'}", "an id of its own"),
        ("key_env = 'NEW'\nkey = 'x'", "looks like a secret"),
    ],
)
def test_settings_that_can_not_be(lines: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.perdure.encryption]\n{lines}\n")
    with pytest.raises(SettingsError, match=problem):
        Settings.resolve(start=tmp_path, environ={})


class Reversed(PayloadCodec):
    async def encode(self, payloads: Any) -> list[Payload]:
        return [Payload(metadata=dict(each.metadata), data=each.data[::-1]) for each in payloads]

    decode = encode


async def test_a_codec_of_the_user_s_own_is_kept() -> None:
    own = replace(pydantic_data_converter, payload_codec=Reversed())
    composed = with_encryption(own, codec())
    assert isinstance(composed.payload_codec, ChainedCodec)
    assert with_encryption(composed, codec()) is composed
    (sent,) = await composed.encode(["zebra"])
    assert sent.metadata["encoding"] == b"binary/encrypted"
    assert (await codec().decode([sent]))[0].data == b'"arbez"'
    assert await composed.decode([sent]) == ["zebra"]


async def test_texts_of_failures_are_encoded_and_revealed() -> None:
    converter = with_encryption(pydantic_data_converter, codec())
    assert converter.failure_converter_class is EncryptedFailureConverter
    try:
        try:
            raise ValueError("zebra inside")
        except ValueError as error:
            raise RuntimeError("zebra outside") from error
    except RuntimeError as error:
        failure = Failure()
        await converter.encode_failure(error, failure)
    assert b"zebra" not in failure.SerializeToString()
    await reveal_failure(failure, converter)
    assert (failure.message, failure.cause.message) == ("zebra outside", "zebra inside")
    await converter.encode_failure(EncryptionError("the key 'x' is missing"), failure)
    assert failure.message == "EncryptionError: the key 'x' is missing" or "the key 'x'" in failure.message


async def ask(port: int, path: str, *, method: str = "POST", body: Any = None, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, f"http://127.0.0.1:{port}{path}", json=body, headers=named)


def served(token: str = "", storage: Path | None = None) -> Any:
    converter = with_encryption(pydantic_data_converter, codec())
    if storage is not None:
        table = {"driver": "local", "path": storage, "threshold_bytes": 1024}
        kept = data_converter(Settings.model_validate({"storage": table, "project_dir": storage}))
        converter = replace(converter, external_storage=kept.external_storage)
    return CodecServer(converter, ORIGIN, token).served(Address("127.0.0.1", 0))


@pytest.mark.parametrize("prefix", ["", "/default"])
async def test_it_decodes_and_encodes(prefix: str, tmp_path: Path) -> None:
    values = ["zebra", "x" * 5000]
    async with served(storage=tmp_path) as port:
        converter = CodecServer(with_encryption(pydantic_data_converter, codec()), ORIGIN).converter
        body = MessageToDict(Payloads(payloads=converter.payload_converter.to_payloads(values)))
        encoded = (await ask(port, f"{prefix}/encode", body=body)).json()
        assert "emVicmE" not in str(encoded)
        decoded = await ask(port, f"{prefix}/decode", body=encoded, origin=ORIGIN, x_namespace="default")
        payloads = ParseDict(decoded.json(), Payloads()).payloads
        assert pydantic_data_converter.payload_converter.from_payloads(list(payloads)) == values
        assert decoded.headers["access-control-allow-origin"] == ORIGIN


async def test_a_browser_asks_first_and_other_origins_are_refused() -> None:
    async with served("t0ken") as port:
        asked = await ask(port, "/decode", method="OPTIONS", origin=ORIGIN)
        assert asked.status_code == 204
        assert "Authorization" in asked.headers["access-control-allow-headers"]
        for origin in ("http://evil.example", ORIGIN + ".evil.example", "null", ORIGIN.replace("8233", "1")):
            for method in ("OPTIONS", "POST"):
                refused = await ask(port, "/decode", method=method, body={}, origin=origin)
                assert refused.status_code == 403
                assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer t0ke", "Basic t0ken", "Bearer t0ken2", "t0ken"])
async def test_the_token_is_needed(given: str) -> None:
    async with served("t0ken") as port:
        headers = {"authorization": given} if given else {}
        assert (await ask(port, "/decode", body={}, **headers)).status_code == 401
        assert (await ask(port, "/decode", body={}, authorization="Bearer t0ken")).status_code == 200


async def test_what_it_does_not_do() -> None:
    async with served() as port:
        assert (await ask(port, "/decode", method="GET")).status_code == 405
        assert (await ask(port, "/other", body={})).status_code == 404
        assert (await ask(port, "/a/b/decode", body={})).status_code == 404
        assert (await ask(port, "/decode", body=[1])).status_code == 400
        assert "the key 'gone'" in (await ask(port, "/decode", body=await _of_another_key())).text
        for head, status in (
            (b"POST /decode HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
            (b"POST /decode HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
            (b"nonsense\r\n\r\n", b"400"),
        ):
            assert (await _raw(port, head)).split()[1] == status


async def _of_another_key() -> dict[str, Any]:
    sent = await codec(key_id="gone").encode([Payload(data=b"x")])
    return MessageToDict(Payloads(payloads=sent))


async def _raw(port: int, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = await reader.read()
    writer.close()
    return answer


async def test_beyond_the_loopback_it_needs_a_token() -> None:
    server = CodecServer(with_encryption(pydantic_data_converter, codec()), ORIGIN)
    with pytest.raises(SettingsError, match="--token-env"):
        async with server.served(Address("0.0.0.0", 0)):
            pass
    assert "t0ken" not in repr(CodecServer(pydantic_data_converter, ORIGIN, "t0ken"))
