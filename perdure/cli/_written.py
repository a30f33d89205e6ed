"""Writing a page where the user wants it."""

import re
import sys
from pathlib import Path

import click

from perdure.cli._context import say
from perdure.cli._format import size
from perdure.cli._render import print_json
from perdure.errors import InvalidInputError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def write_page(page: str, out: str | None, workflow_id: str, output: str) -> None:
    """Write a page, and print where it is.

    Raises:
        InvalidInputError: It can't be written there. Not retryable.
    """
    data = page.encode()
    if out == "-":
        sys.stdout.buffer.write(data)
        return
    path = Path(out) if out else Path(f"{_UNSAFE.sub('-', workflow_id).strip('-.')[:120] or 'run'}.html")
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InvalidInputError(f"Can't write {str(path)!r}: {error.strerror}. Choose another by --out.") from None
    if output != "text":
        print_json({"path": str(path), "bytes": len(data)}, output)
        return
    click.echo(str(path))
    say(f"{size(len(data))}; open it in a browser.")
