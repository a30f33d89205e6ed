"""Hypothesis strategies for any contract, made from its fields: a new one is covered as it comes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import JsonValue
from pydantic.fields import FieldInfo

from perdure.contracts import (
    bill,
    budget,
    calls,
    compaction,
    fork,
    limits,
    memory,
    messages,
    money,
    plan,
    rerun,
    run,
    scores,
    selection,
    spec,
    steering,
    usage,
    waits,
    workers,
)
from perdure.contracts import map as map_
from perdure.contracts._base import Contract

MODULES = (
    bill,
    budget,
    calls,
    compaction,
    fork,
    limits,
    map_,
    memory,
    messages,
    money,
    plan,
    rerun,
    run,
    scores,
    selection,
    spec,
    steering,
    usage,
    waits,
    workers,
)
CONTRACTS: list[type[Contract]] = sorted(
    {
        each
        for module in MODULES
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, Contract) and each is not Contract and name[0] != "_"
    },
    key=lambda each: each.__name__,
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=3,
)
json_objects = st.dictionaries(texts, json_values, max_size=2)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    bool: st.booleans(),
    type(None): st.none(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    JsonValue: json_values,
    Any: json_values,
}


@cache
def contracts(cls: type[Contract]) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a contract."""
    fields = {name: _of(field.annotation, field.metadata) for name, field in cls.model_fields.items()}
    if "blob" in fields:
        blob = contracts(messages.BlobRef)
        sources = st.builds(dict, url=texts) | st.builds(dict, blob=blob)
        rest = {name: each for name, each in fields.items() if name not in ("url", "blob")}
        merged = st.builds(dict.__or__, sources, st.fixed_dictionaries(rest))
        return merged.map(cls.model_validate)
    return st.builds(cls, **fields)


def full_contracts(cls: type[Contract]) -> st.SearchStrategy[Any]:
    """Return a strategy for values of which no field has its default; chance alone finds none of many fields."""
    if "blob" in cls.model_fields:
        return contracts(cls)
    fields = {
        name: _of(field.annotation, field.metadata).filter(
            lambda value, f=field: f.is_required() or value != f.default
        )
        for name, field in cls.model_fields.items()
    }
    return st.builds(cls, **fields)


def field_values(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field."""
    return _of(field.annotation, field.metadata)


def _of(hint: Any, metadata: Sequence[Any] = ()) -> st.SearchStrategy[Any]:
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner = [part for each in args[1:] if isinstance(each, FieldInfo) for part in each.metadata]
        return _of(args[0], inner)
    if origin in (Union, UnionType):
        return st.one_of([_of(each, metadata) for each in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(_of(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(texts, texts, max_size=2) if args == (str, str) else json_objects
    if issubclass(hint, Contract):
        return contracts(hint)
    return _number(hint, metadata)


def _number(hint: type, metadata: Sequence[Any]) -> st.SearchStrategy[Any]:
    bounds = {name: getattr(each, name) for each in metadata for name in ("ge", "gt", "le") if hasattr(each, name)}
    if hint is timedelta:
        return st.timedeltas(timedelta(microseconds=1), timedelta(days=365))
    if hint is int:
        return st.integers(bounds.get("ge", -(2**31)), bounds.get("le", 2**53))
    low = bounds.get("ge", 0)
    if hint is float:
        return st.floats(low, bounds.get("le", 2), exclude_min="gt" in bounds)
    assert hint is Decimal, hint
    return st.decimals(Decimal("0.000001") if "gt" in bounds else 0, 10**9, places=6)
