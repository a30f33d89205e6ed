"""Puts perdure's payload converter beside a user's own. Client and worker side; no I/O.

perdure's contracts are pydantic models. What a user's project sends is left to the user's converter, so that
histories that it wrote, and services that don't know of perdure, are read as before.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, get_args

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import PayloadConverter, SerializationContext, WithSerializationContext

from perdure.contracts._base import Contract


class BesidePayloadConverter(PayloadConverter, WithSerializationContext):
    """Converts perdure's contracts by pydantic, and all else by another converter."""

    own: ClassVar[type[PayloadConverter]]

    def __init__(self) -> None:
        """Make both."""
        self._own = self.own()
        self._pydantic = PydanticPayloadConverter()

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """Convert each value by who knows it."""
        return [
            payload
            for value in values
            for payload in (self._pydantic if _is_contract(value) else self._own).to_payloads([value])
        ]

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Convert each payload by who knows its type."""
        found: list[Any] = []
        for index, payload in enumerate(payloads):
            hints = None if type_hints is None else type_hints[index : index + 1]
            converter = self._pydantic if hints and _names_contract(hints[0]) else self._own
            found += converter.from_payloads([payload], hints or None)
        return found

    def with_context(self, context: SerializationContext) -> "BesidePayloadConverter":
        """Return it with the other converter told of what it converts."""
        if not isinstance(self._own, WithSerializationContext):
            return self
        told = type(self)()
        told._own = self._own.with_context(context)
        return told


@cache
def beside(own: type[PayloadConverter]) -> type[PayloadConverter]:
    """Return a converter class that leaves all but perdure's contracts to `own`."""
    if issubclass(own, BesidePayloadConverter | PydanticPayloadConverter):
        return own
    return type(f"Perdure{own.__name__}", (BesidePayloadConverter,), {"own": own})


def _is_contract(value: Any) -> bool:
    match value:
        case Contract():
            return True
        case list() | tuple():
            return any(map(_is_contract, value))  # pyright: ignore[reportUnknownArgumentType]
        case Mapping():
            return any(map(_is_contract, value.values()))  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return False


def _names_contract(hint: Any) -> bool:
    if isinstance(hint, type) and not get_args(hint):
        return issubclass(hint, Contract)
    return any(map(_names_contract, get_args(hint)))
