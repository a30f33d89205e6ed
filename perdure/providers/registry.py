"""Activity side; owns which providers a worker has, and finds the one that a model's prefix names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from perdure.errors import DuplicateNameError, UnknownModelError, suggest
from perdure.providers._config import ProtocolName, ProviderConfig
from perdure.providers._gate import Gates
from perdure.providers._http import HttpLayer
from perdure.providers._redact import show_url
from perdure.providers._transport import NewTransport, fastest_transport
from perdure.providers.anthropic import AnthropicProvider
from perdure.providers.base import Provider
from perdure.providers.openai import OpenAIProvider

__all__ = ["BUILT_IN", "KeyState", "ProtocolName", "ProviderConfig", "ProviderStatus", "Providers"]

KeyState = Literal["yes", "no", "not needed"]

BUILT_IN = (
    ProviderConfig(
        name="openai",
        protocol="openai",
        base_url="https://api.openai.com/v1",
        base_url_env="OPENAI_BASE_URL",
        api_key_env="OPENAI_API_KEY",
    ),
    ProviderConfig(
        name="anthropic",
        protocol="anthropic",
        base_url="https://api.anthropic.com",
        base_url_env="ANTHROPIC_BASE_URL",
        api_key_env="ANTHROPIC_API_KEY",
    ),
    ProviderConfig(name="offline", protocol="offline"),
)
"""The providers that need no configuration; one of the same name replaces them."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """What a person may know of a provider; never the key."""

    name: str
    protocol: str
    base_url: str
    """Without user, password and query; empty for a provider that makes no HTTP calls."""
    key_set: KeyState
    key_env: str | None = None


class Providers:
    """The providers of one worker; they share a pool of connections.

    Args:
        configs: Further providers; one named like a built-in replaces it.
        new_transport: Makes what sends requests.
        extra: Providers that are made already.

    Attributes:
        gates: Where calls are held back at a vendor's rate limit, or while it is down.
    """

    def __init__(
        self,
        configs: Iterable[ProviderConfig] = (),
        *,
        new_transport: NewTransport = fastest_transport,
        extra: Sequence[Provider] = (),
    ) -> None:
        given = list(configs)
        _refuse_duplicates([*(config.name for config in given), *(provider.name for provider in extra)])
        made = {provider.name for provider in extra}
        self._configs = {config.name: config for config in (*BUILT_IN, *given) if config.name not in made}
        self._http = HttpLayer(new_transport)
        self.gates = Gates()
        self._made: dict[str, Provider] = {provider.name: provider for provider in extra}

    def names(self) -> tuple[str, ...]:
        """Return the prefixes that models may have, sorted."""
        return tuple(sorted({*self._configs, *self._made}))

    def resolve(self, model: str) -> tuple[Provider, str]:
        """Return the provider of `prefix:model`, and the vendor's name of the model.

        Raises:
            UnknownModelError: no such form, or no such provider. Not retryable.
        """
        prefix, colon, name = model.partition(":")
        if not colon or not prefix or not name:
            raise UnknownModelError(
                f"{model!r} names no provider. Write it as 'provider:model', such as 'openai:gpt-5-mini'."
            )
        return self._provider(prefix), name

    def status(self) -> list[ProviderStatus]:
        """Return what is set up, sorted by name; no call is made."""
        return [self._status(name) for name in self.names()]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _provider(self, name: str) -> Provider:
        made = self._made.get(name)
        if made is None:
            config = self._configs.get(name)
            if config is None:
                raise UnknownModelError(
                    f"There is no provider {name!r}.{suggest(name, self.names())} "
                    f"Others are set up in [tool.perdure.providers.{name}]."
                )
            made = self._made[name] = _make(config, self._http, self.gates)
        return made

    def _status(self, name: str) -> ProviderStatus:
        config = self._configs.get(name)
        if config is None:
            return ProviderStatus(name, self._made[name].protocol, "", "not needed")
        url = show_url(config.url()) if config.url() else ""
        if config.api_key_env is None:
            return ProviderStatus(name, config.protocol, url, "not needed")
        key: KeyState = "yes" if config.api_key() else "no"
        return ProviderStatus(name, config.protocol, url, key, config.api_key_env)


def _make(config: ProviderConfig, http: HttpLayer, gates: Gates) -> Provider:
    if config.protocol == "openai":
        return OpenAIProvider(config, http, gates)
    if config.protocol == "anthropic":
        return AnthropicProvider(config, http, gates)
    # Imported late: a worker that asks real models never needs it.
    from perdure.providers.offline import OfflineProvider

    return OfflineProvider()


def _refuse_duplicates(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DuplicateNameError(f"Two providers are named {name!r}. Rename one of them.")
