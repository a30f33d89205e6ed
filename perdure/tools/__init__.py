"""Ready-made tools, for `Agent(tools=[…])`. Both sides declare them; what they do is imported when a call runs.

Importing this package imports nothing else of ours; each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.tools.credentials import Credential, basic_auth, env
    from perdure.tools.durable import activity_tool
    from perdure.tools.files import file_tools
    from perdure.tools.http import http_tool
    from perdure.tools.openapi import openapi_tools
    from perdure.tools.shell import shell_tool
    from perdure.tools.web import fetch_url

_HOMES = {
    "Credential": "perdure.tools.credentials",
    "activity_tool": "perdure.tools.durable",
    "basic_auth": "perdure.tools.credentials",
    "env": "perdure.tools.credentials",
    "fetch_url": "perdure.tools.web",
    "file_tools": "perdure.tools.files",
    "http_tool": "perdure.tools.http",
    "openapi_tools": "perdure.tools.openapi",
    "shell_tool": "perdure.tools.shell",
}

__all__ = [
    "Credential",
    "activity_tool",
    "basic_auth",
    "env",
    "fetch_url",
    "file_tools",
    "http_tool",
    "openapi_tools",
    "shell_tool",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'perdure.tools' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
