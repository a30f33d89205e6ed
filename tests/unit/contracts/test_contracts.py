"""What holds for every contract: whatever is recorded today is read tomorrow, by older and newer workers."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.contracts import names
from perdure.contracts._base import Contract
from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import Message
from perdure.contracts.run import RunInput
from tests.unit.contracts.strategies import CONTRACTS, contracts

GOLDEN = Path(__file__).parent / "golden"
NEW = "`python -m tests.unit.contracts.record` adds samples of new contracts and fields"
CONVERTER = pydantic_data_converter.payload_converter
every_contract = pytest.mark.parametrize("cls", CONTRACTS, ids=lambda cls: cls.__name__)


def golden(cls: type[Contract]) -> dict[str, Any]:
    """Return samples of what was recorded once. They are a promise: fields are added, nothing else."""
    return json.loads((GOLDEN / f"{cls.__name__}.json").read_text())


def recorded(value: Contract) -> Any:
    return json.loads(CONVERTER.to_payloads([value])[0].data)


def written_names(cls: type[Contract]) -> dict[str, str]:
    return {name: field.serialization_alias or name for name, field in cls.model_fields.items()}


def as_json(value: Any) -> Any:
    if isinstance(value, Contract):
        return recorded(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


@every_contract
@given(data=st.data())
@settings(max_examples=10)
def test_it_survives_the_data_converter(cls: type[Contract], data: st.DataObject) -> None:
    value = data.draw(contracts(cls))
    payloads = CONVERTER.to_payloads([value])
    assert CONVERTER.from_payloads(payloads, [cls]) == [value]
    assert payloads[0].data == value.to_bytes()


@every_contract
@given(data=st.data())
@settings(max_examples=5)
def test_what_equals_its_default_is_not_recorded(cls: type[Contract], data: st.DataObject) -> None:
    value = data.draw(contracts(cls))
    written = recorded(value)
    for name, field in cls.model_fields.items():
        is_left_out = not field.is_required() and name != "kind" and getattr(value, name) == field.default
        assert (written_names(cls)[name] not in written) == is_left_out


@every_contract
@given(data=st.data())
@settings(max_examples=5)
def test_a_newer_workers_fields_are_ignored(cls: type[Contract], data: st.DataObject) -> None:
    value = data.draw(contracts(cls))
    assert cls.model_validate({**recorded(value), "of_a_later_release": {"a": 1}}) == value


def test_fields_of_a_later_release_are_ignored_inside_too() -> None:
    part = {"kind": "text", "text": "x", "later": 1}
    message = Message.model_validate({"role": "user", "parts": [part], "later": 1})
    assert recorded(message) == {"role": "user", "parts": [{"kind": "text", "text": "x"}]}


@every_contract
def test_a_golden_sample_is_read_and_written_as_it_is(cls: type[Contract]) -> None:
    sample = golden(cls)["full"]
    assert recorded(cls.model_validate(sample)) == sample


@every_contract
def test_the_golden_sample_names_every_field(cls: type[Contract]) -> None:
    either = {"url", "blob"} if "blob" in cls.model_fields else set[str]()
    assert set(golden(cls)["full"]) | either == set(written_names(cls).values()), NEW


@every_contract
def test_no_default_ever_changes(cls: type[Contract]) -> None:
    sample = golden(cls)
    value = cls.model_validate(sample["minimal"])
    read = {written_names(cls)[name]: as_json(getattr(value, name)) for name in cls.model_fields}
    assert {**read, **sample["defaults"]} == read
    assert set(sample["defaults"]) | set(sample["minimal"]) == set(read), NEW
    assert recorded(value) == sample["minimal"]


def test_every_sample_has_its_contract() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {cls.__name__ for cls in CONTRACTS}, NEW


@every_contract
def test_it_is_frozen(cls: type[Contract]) -> None:
    value = cls.model_validate(golden(cls)["full"])
    name = next(iter(cls.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, name, getattr(value, name))


@every_contract
def test_durations_are_recorded_in_seconds(cls: type[Contract]) -> None:
    full = golden(cls)["full"]
    for name, field in cls.model_fields.items():
        if timedelta in (field.annotation, *get_args(field.annotation)):
            assert isinstance(full[f"{name}_seconds"], float)


def test_a_duration_is_given_by_either_name() -> None:
    expected = ModelSettings(timeout=timedelta(seconds=90))
    assert recorded(expected) == {"timeout_seconds": 90.0}
    assert ModelSettings.model_validate({"timeout": 90}) == expected
    assert ModelSettings.model_validate({"timeout_seconds": 90}) == expected


def test_text_is_recorded_as_people_write_it() -> None:
    message = Message.model_validate({"role": "user", "parts": [{"kind": "text", "text": "né 🙂"}]})
    assert "né 🙂".encode() in message.to_bytes()


def test_a_part_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="kind"):
        RunInput.model_validate({"agent": "a", "input": [{"kind": "tool_call", "id": "1", "name": "x"}]})


def test_registered_names_never_change() -> None:
    registered = {name: value for name, value in vars(names).items() if name.isupper()}
    recorded_names = json.loads((GOLDEN.parent / "golden_names.json").read_text())
    assert {**registered, **recorded_names} == registered
