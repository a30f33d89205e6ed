"""`${NAME}` in the configuration of a server, which the worker's environment answers. Activity side; pure."""

import re
import sys
from collections.abc import Iterator, Mapping

from perdure._secrets import read_secret
from perdure.agents.mcp import MCPServer
from perdure.mcp._faults import ServerFault

_VARIABLE = re.compile(r"\$\{(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_LEAST_SECRET = 6
"""Shorter values are no secrets, and would blot out ordinary words."""

_NEEDED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
_NEEDED_WINDOWS = (
    *("APPDATA", "COMSPEC", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE"),
    *("PROGRAMFILES", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERNAME", "USERPROFILE"),
)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with the values of variables in place of their names.

    Raises:
        ServerFault: A variable isn't set, and has no default.
    """

    def value(match: re.Match[str]) -> str:
        if match["name"] in environ:
            return environ[match["name"]]
        if kept := read_secret(match["name"], environ):
            return kept
        if match.start("default") < 0:
            raise ServerFault(f"the environment variable {match['name']} isn't set on the worker")
        return match["default"]

    return _VARIABLE.sub(value, text)


def process_environment(server: MCPServer, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server's process: what any program needs, what is passed, and what is set.

    Raises:
        ServerFault: A variable isn't set.
    """
    needed = _NEEDED_WINDOWS if sys.platform == "win32" else _NEEDED
    passed = {name: environ[name] for name in (*needed, *server.pass_env) if name in environ}
    return {**passed, **{name: expand(value, environ) for name, value in server.env.items()}}


def secrets_of(server: MCPServer, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what must not be told of a server: values of variables and headers, and of those within arguments."""
    texts = [*server.env.values(), *server.headers.values()]
    names = [match["name"] for text in (*texts, *server.args, server.url) for match in _VARIABLE.finditer(text)]
    for value in (*texts, *(read_secret(name, environ) for name in (*names, *server.pass_env))):
        for part in (value, *value.split()):  # `Bearer …` is told apart from what it bears
            is_word = part.lower() in ("bearer", "basic", "token") or _VARIABLE.search(part)
            if len(part) >= _LEAST_SECRET and not is_word:
                yield part
