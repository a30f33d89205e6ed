"""`perdure codec`: encrypted payloads for people."""

import click

from perdure.cli._command import Command


@click.group(name="codec")
def command() -> None:
    """Decode encrypted payloads for Temporal's web UI and command line."""


@command.command(name="serve", cls=Command)
@click.option(
    "--origin", metavar="URL", help="Where the web UI is.  [default: ui_url, else this project's server]"
)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", type=click.IntRange(0, 65535), default=8234, show_default=True, help="0 is any free one.")
@click.option(
    "--token-env", metavar="NAME", help="The environment variable with the token that callers must have."
)
def serve(origin: str | None, host: str, port: int, token_env: str | None) -> None:
    """Serve Temporal's codec protocol, with the keys of [tool.perdure.encryption], until Ctrl-C.

    Pages of the origin alone are answered. Without a token it listens on the loopback only, and every user of this
    machine can decode with it. Give the web UI its address: "Configure Codec Server".
    """
    from perdure.cli._codec import serve_codec

    serve_codec(origin=origin, host=host, port=port, token_env=token_env)
