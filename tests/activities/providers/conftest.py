"""Providers that are pointed at a fake, with a key that must never show."""

from collections.abc import AsyncIterator, Callable

import pytest

from perdure.providers._transport import NewTransport, fastest_transport
from perdure.providers.base import Provider
from perdure.providers.registry import ProviderConfig, Providers
from tests.activities.providers.helpers import KEY

MakeProvider = Callable[..., Provider]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAKE_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    return KEY


@pytest.fixture
def new_transport() -> NewTransport:
    return fastest_transport


@pytest.fixture
async def make_provider(new_transport: NewTransport) -> AsyncIterator[MakeProvider]:
    made: list[Providers] = []

    def make(protocol: str, url: str, **options: object) -> Provider:
        config = {"name": "fake", "api_key_env": "FAKE_KEY", **options}
        configs = [ProviderConfig(protocol=protocol, base_url=url, **config)]  # pyright: ignore[reportArgumentType]
        providers = Providers(configs, new_transport=new_transport)
        made.append(providers)
        return providers.resolve("fake:model-1")[0]

    yield make
    for providers in made:
        await providers.aclose()
