"""What `perdure codec` does."""

from urllib.parse import urlsplit

from perdure._production import Address, read_host, show
from perdure._secrets import read_secret
from perdure.cli._context import Signals, resolve, run_async, say
from perdure.codec_server import CodecServer
from perdure.encryption import check_keys
from perdure.errors import InvalidInputError, SettingsError
from perdure.settings import Settings
from perdure.storage.opening import data_converter


def serve_codec(*, origin: str | None, host: str, port: int, token_env: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: No encryption is configured, a key is missing, or the address is taken. Not retryable.
        InvalidInputError: An origin, address or variable can't be used. Not retryable.
    """
    settings = resolve().settings
    if settings.encryption is None:
        raise SettingsError("No encryption is configured: see [tool.perdure.encryption].")
    converter = data_converter(settings)
    check_keys(converter)
    server = CodecServer(converter, _origin(origin, settings), _token(token_env))
    run_async(_serve(server, _address(host, port)))


async def _serve(server: CodecServer, address: Address) -> None:
    signals = Signals()
    signals.listen()
    async with server.served(address) as port:
        say(f"Codec server on http://{show(Address(address.host, port))}, for {server.origin}")
        await signals.stop.wait()


def _origin(given: str | None, settings: Settings) -> str:
    text = given or settings.ui_url or f"http://localhost:{settings.dev_ui_port}"
    wrong = InvalidInputError(f"--origin {text!r} should be where the web UI is, such as https://temporal.my.org.")
    try:
        url = urlsplit(text)
    except ValueError:
        raise wrong from None
    if url.scheme not in ("http", "https") or not url.hostname or "*" in text or "@" in url.netloc:
        raise wrong
    return f"{url.scheme}://{url.netloc}"


def _address(host: str, port: int) -> Address:
    try:
        return Address(read_host(host), port)
    except ValueError:
        raise InvalidInputError(f"--host {host!r} should be an IP address.") from None


def _token(variable: str | None) -> str:
    if variable is None:
        return ""
    token = read_secret(variable)
    if not token:
        raise SettingsError(f"--token-env: {variable} isn't set here. `openssl rand -hex 32` makes a token.")
    return token
