"""Activity side; owns how a provider is configured. Keys are read at each call and kept nowhere."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from perdure._secrets import read_secret
from perdure.errors import SettingsError, UnknownModelError, suggest
from perdure.providers._redact import HIDDEN, show_url

ProtocolName = Literal["openai", "anthropic", "offline"]


@dataclass(frozen=True, kw_only=True, repr=False)
class ProviderConfig:
    """A vendor, or a server of one's own, and the wire format that it speaks."""

    name: str
    """The prefix of its models, as in `openai:gpt-5-mini`."""
    protocol: ProtocolName
    base_url: str = ""
    """Everything before `/chat/completions` or `/v1/messages`."""
    base_url_env: str | None = None
    """A variable that overrides `base_url` where it is set."""
    api_key_env: str | None = None
    """The variable that holds the key; None for a server that wants none."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent with each call; their values count as secrets."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What a server of the `openai` protocol calls the limit of the reply; decided by its address when unset."""
    auto_output: Literal["native", "tool"] | None = None
    """What `output_mode="auto"` means here; the protocol's own default when unset."""
    reasoning_field: str | None = None
    """The field in which a server of the `openai` protocol wants its reasoning back, if it does."""

    def __post_init__(self) -> None:
        """Refuse a configuration that could only fail later, and less clearly.

        Raises:
            SettingsError: the name or the protocol can't be used. Not retryable.
        """
        if not self.name or ":" in self.name:
            raise SettingsError(
                f"A provider can't be named {self.name!r}: it is the part before the ':' of a model."
            )
        known = get_args(ProtocolName)
        if self.protocol not in known:
            hint = suggest(self.protocol, known)
            raise SettingsError(f"Provider {self.name!r} can't speak {self.protocol!r}.{hint}")

    def __repr__(self) -> str:
        """Show no secret: a URL can hold one, a header is likely to."""
        headers = dict.fromkeys(self.headers, HIDDEN)
        return (
            f"ProviderConfig(name={self.name!r}, protocol={self.protocol!r}, base_url={show_url(self.url())!r}, "
            f"api_key_env={self.api_key_env!r}, headers={headers!r})"
        )

    def url(self) -> str:
        """Return the base URL of the day, without a slash at its end."""
        override = os.environ.get(self.base_url_env, "").strip() if self.base_url_env else ""
        return (override or self.base_url).rstrip("/")

    def endpoint(self, path: str) -> str:
        """Return the URL of a call; a query stays at the end. User and password are left out: it is shown."""
        parts = urlsplit(self.url())
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, path=parts.path.rstrip("/") + path, fragment="").geturl()

    def userinfo(self) -> str | None:
        """Return what the base URL holds as `user:password`, or None."""
        before, at, _ = urlsplit(self.url()).netloc.rpartition("@")
        return unquote(before) if at else None

    def api_key(self) -> str | None:
        """Return the key of the day, or None where none is set or needed."""
        return read_secret(self.api_key_env) or None if self.api_key_env else None

    def check(self) -> None:
        """Raise UnknownModelError if calls can't work with this configuration."""
        parts = urlsplit(self.url())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnknownModelError(
                f"The base URL of provider {self.name!r}, {show_url(self.url())!r}, is no http(s) URL. "
                f"Set base_url{f' or {self.base_url_env}' if self.base_url_env else ''}."
            )
        key = self.api_key()
        if self.api_key_env and key is None:
            raise UnknownModelError(
                f"Provider {self.name!r} needs a key: set the environment variable {self.api_key_env} "
                f"where the worker runs, or {self.api_key_env}_FILE to the path of a file with it."
            )
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UnknownModelError(
                f"The key in {self.api_key_env} holds characters that no key has. Set it again."
            )
