"""An HTTP operation as data: where each argument of a call goes. Both sides; it sends nothing."""

from dataclasses import dataclass, field
from typing import Any, Literal

from perdure.agents.context import ToolContext
from perdure.tools.credentials import Credential

Place = Literal["path", "query", "header", "cookie"]

READING = frozenset({"GET", "HEAD", "OPTIONS"})
REPEATABLE = READING | {"PUT", "DELETE"}
"""Idempotent by RFC 9110, section 9.2.2."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Where an argument goes, and how it is written."""

    argument: str
    """Its name in the tool's schema."""
    name: str
    place: Place
    style: str = ""
    explode: bool = False
    allow_reserved: bool = False
    is_json: bool = False
    """It is written as JSON, whatever its style."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """How the argument `body` is written."""

    media_type: str
    argument: str = "body"
    is_base64: bool = False
    """The argument is text that stands for bytes."""
    encodings: tuple[tuple[str, str, bool], ...] = ()
    """Of a form's fields that have a style of their own: name, style, explode."""
    binary_fields: frozenset[str] = frozenset()
    """Of a form: fields that are files."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a call sends, and where to. Compared by value, so that two agents may have the same tool."""

    method: str
    base_url: str
    path: str
    """With `{name}` for the parameters of the path."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    headers: tuple[tuple[str, str], ...] = ()
    auth: tuple[Credential, ...] = ()
    idempotency_header: str = ""
    total_seconds: float = 60
    max_result_bytes: int = field(default=64 * 1024)

    async def __call__(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Answer a call of the tool."""
        from perdure.tools._sending import send

        return await send(self, arguments, context)

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method in REPEATABLE or bool(self.idempotency_header)
