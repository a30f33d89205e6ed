"""Which providers there are, what is said of them, and what never is."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.errors import DuplicateNameError, ModelCallError, SettingsError, UnknownModelError
from perdure.providers._redact import redact, show_url
from perdure.providers.base import Provider
from perdure.providers.prices import find_model
from perdure.providers.registry import ProviderConfig, Providers
from tests.activities.providers.helpers import KEY, ask
from tests.fakes.http import Connection, HttpServer, Request

OLLAMA = ProviderConfig(name="ollama", protocol="openai", base_url="http://localhost:11434/v1")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def test_a_model_is_found_by_its_prefix() -> None:
    providers = Providers([OLLAMA])
    provider, model = providers.resolve("ollama:qwen3:8b")
    assert (provider.name, provider.protocol, model) == ("ollama", "openai", "qwen3:8b")
    assert isinstance(provider, Provider)
    assert providers.resolve("ollama:other")[0] is provider
    assert providers.names() == ("anthropic", "offline", "ollama", "openai")


def test_the_offline_provider_needs_no_key() -> None:
    provider, _ = Providers().resolve("offline:any")
    provider.check()
    assert (provider.name, isinstance(provider, Provider)) == ("offline", True)


@pytest.mark.parametrize("model", ["gpt-5", ":gpt-5", "openai:", ""])
def test_a_model_without_a_prefix_is_refused(model: str) -> None:
    with pytest.raises(UnknownModelError, match="provider:model"):
        Providers().resolve(model)


def test_an_unknown_prefix_is_refused_with_a_hint() -> None:
    with pytest.raises(
        UnknownModelError, match=r"'opnai'.* Did you mean 'openai'\?.*\[tool.perdure.providers.opnai\]"
    ):
        Providers().resolve("opnai:gpt-5")


async def test_a_missing_key_is_named() -> None:
    provider, _ = Providers().resolve("anthropic:claude-opus-5")
    with pytest.raises(UnknownModelError, match="ANTHROPIC_API_KEY"):
        provider.check()
    with pytest.raises(UnknownModelError, match="ANTHROPIC_API_KEY"):
        await ask(provider)


def test_a_key_that_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, _ = Providers().resolve("openai:gpt-5")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(UnknownModelError) as caught:
        provider.check()
    assert KEY not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    provider.check()


@pytest.mark.parametrize("url", ["", "localhost:11434", "ftp://x/y", "http://"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    provider, _ = Providers([replace(OLLAMA, base_url=url)]).resolve("ollama:x")
    with pytest.raises(UnknownModelError, match="base_url"):
        provider.check()


def test_a_config_may_replace_a_built_in_but_not_another() -> None:
    mine = replace(OLLAMA, name="openai")
    assert Providers([mine]).status()[-1].base_url == "http://localhost:11434/v1"
    with pytest.raises(DuplicateNameError, match="ollama"):
        Providers([OLLAMA, OLLAMA])


@pytest.mark.parametrize(("name", "protocol"), [("", "openai"), ("a:b", "openai"), ("x", "opnai")])
def test_a_config_of_no_sense_is_refused(name: str, protocol: Any) -> None:
    with pytest.raises(SettingsError):
        ProviderConfig(name=name, protocol=protocol)


@pytest.mark.parametrize(
    ("protocol", "base_url", "called"),
    [
        ("openai", "/v1", "/v1/chat/completions"),
        ("openai", "/v1/?api-version=2", "/v1/chat/completions?api-version=2"),
        ("anthropic", "/", "/v1/messages"),
        ("anthropic", "/v1", "/v1/messages"),
        ("anthropic", "/proxy?x=1", "/proxy/v1/messages?x=1"),
    ],
)
async def test_the_path_is_put_behind_the_base_url(protocol: Any, base_url: str, called: str) -> None:
    async def refuse(_: Request, connection: Connection) -> None:
        await connection.answer_json(400, {})

    async with HttpServer(refuse) as server:
        providers = Providers([ProviderConfig(name="x", protocol=protocol, base_url=server.url + base_url)])
        with pytest.raises(ModelCallError):
            await ask(providers.resolve("x:y")[0])
        await providers.aclose()
    assert [request.path for request in server.requests] == [called]


async def test_user_and_password_of_a_url_are_sent_but_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_: Request, connection: Connection) -> None:
        await connection.answer_json(400, {"error": "hunter2 is wrong"})

    caplog.set_level(logging.DEBUG)
    async with HttpServer(refuse) as server:
        url = server.url.replace("//", "//me:hunter%32@")
        providers = Providers([replace(OLLAMA, base_url=url)])
        with pytest.raises(ModelCallError) as caught:
            await ask(providers.resolve("ollama:x")[0])
        await providers.aclose()
    assert server.requests[0].headers["authorization"] == "Basic bWU6aHVudGVyMg=="
    assert "hunter" not in caplog.text + caught.value.message


def test_providers_that_are_made_already_are_used() -> None:
    made, _ = Providers([OLLAMA]).resolve("ollama:x")
    providers = Providers(extra=[made])
    assert providers.resolve("ollama:x")[0] is made
    assert [status.name for status in providers.status()] == ["anthropic", "offline", "ollama", "openai"]


def test_the_status_shows_whether_a_key_is_set_and_never_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:hunter2@proxy.example/v1/?token=hunter2")
    status = {each.name: each for each in Providers([OLLAMA]).status()}
    assert {name: each.key_set for name, each in status.items()} == {
        "anthropic": "no",
        "offline": "not needed",
        "ollama": "not needed",
        "openai": "yes",
    }
    assert status["openai"].base_url == "https://proxy.example/v1/"
    assert status["anthropic"].key_env == "ANTHROPIC_API_KEY"
    assert KEY not in repr(status)
    assert "hunter2" not in repr(status)


def test_no_repr_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = replace(
        OLLAMA, api_key_env="OPENAI_API_KEY", headers={"X-Key": "hunter2"}, base_url="http://u:hunter2@x/v1"
    )
    provider, _ = Providers([config]).resolve("ollama:x")
    shown = f"{config!r} {provider!r} {vars(provider)!r}"
    assert "hunter2" not in shown
    assert KEY not in shown
    assert "X-Key" in shown


async def test_an_answer_that_repeats_the_address_shows_nothing_secret_of_it() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500, text=f"oops {request.url}")

    config = replace(OLLAMA, base_url="http://u:hunter2@localhost:1/v1?k=hunter2")
    providers = Providers([config], new_transport=lambda tls, limits, proxy: httpx.MockTransport(answer))
    with pytest.raises(ModelCallError) as caught:
        await ask(providers.resolve("ollama:x")[0])
    await providers.aclose()
    assert len(seen) == 1
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://u:p@host:8/a?b=c#d now", "see https://host:8/a now"),
        ("Authorization: Bearer abc.def-123", "Authorization: ***"),
        ("key sk-ant-api03-abcdef is bad", "key *** is bad"),
        ("key AIzaSyD-abcdefgh is bad", "key *** is bad"),
        ("key ab****yz is bad", "key *** is bad"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_placeholder_for_a_key_garbles_no_text() -> None:
    assert redact("broken xylophone", ["x"]) == "broken xylophone"
    assert redact("a key1 b", ["key1"]) == "a *** b"


def test_urls_are_shown_without_their_private_parts() -> None:
    assert show_url("http://u:p@[::1]:80/v1?x=1") == "http://[::1]:80/v1"
    assert show_url("http://[bad") == "(an invalid URL)"


def test_prices_are_looked_up() -> None:
    price, window = find_model("openai:gpt-5-mini")
    assert price
    assert price.output_usd > price.input_usd > 0
    assert window
    claude, _ = find_model("anthropic:claude-sonnet-4-5")
    assert claude
    assert claude.cached_input_usd
    assert claude.cache_write_usd
    assert claude.cache_write_usd > claude.input_usd > claude.cached_input_usd


@pytest.mark.parametrize("name", ["openai:never-heard-of", "nobody:gpt-5-mini", "ollama:qwen3", "", "x"])
def test_an_unknown_price_is_none_and_not_zero(name: str) -> None:
    assert find_model(name) == (None, None)


def test_offline_models_are_free() -> None:
    price, window = find_model("offline:x")
    assert price
    assert (price.input_usd, price.output_usd, window) == (0, 0, None)


def test_a_key_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-of-the-file\n")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    config = ProviderConfig(
        name="openai", protocol="openai", base_url="https://x.test", api_key_env="OPENAI_API_KEY"
    )
    assert config.api_key() == "sk-of-the-file"
    file.write_text("sk-replaced")
    assert config.api_key() == "sk-replaced", "rotated while the worker runs"
    file.unlink()
    with pytest.raises(UnknownModelError, match="OPENAI_API_KEY_FILE"):
        config.check()
