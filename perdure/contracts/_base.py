"""The base of every contract. Both sides; stdlib and pydantic only.

Rules for whoever adds a field: it has a default, and that default never changes, because a value equal to
its default is left out of Event History and read back as the default of the day.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializationInfo, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import to_json

WHOLE = "whole"
"""Serialisation context in which defaults are written too: for people and programs, not for history."""

_SETS: dict[frozenset[str], set[str]] = {}
"""Every combination of given fields that was seen; as many as there are shapes of contracts."""


class Contract(BaseModel):
    """A frozen value that crosses a process boundary and may stay in Event History for ever.

    Unknown fields are ignored, so that an older worker can read what a newer one wrote.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        ser_json_timedelta="float",
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    _omitted: ClassVar[tuple[tuple[str, str, Any], ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Collect the fields that are left out when they hold their default."""
        cls._omitted = tuple(
            (name, field.serialization_alias or field.alias or name, field.default)
            for name, field in cls.model_fields.items()
            if not field.is_required() and field.default_factory is None and name != "kind"
        )

    @model_serializer(mode="wrap")
    def _omit_defaults(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if info.context == WHOLE:
            return data
        values = self.__dict__
        for name, written, default in self._omitted:
            if values[name] == default:
                data.pop(written, None)
        return data

    def model_post_init(self, context: Any, /) -> None:
        """Share the set of the fields that were given: a set of its own takes 200 to 700 bytes a value."""
        given = self.__pydantic_fields_set__
        object.__setattr__(self, "__pydantic_fields_set__", _SETS.setdefault(frozenset(given), given))

    def to_bytes(self) -> bytes:
        """Return the JSON that the data converter would record."""
        return to_json(self)
