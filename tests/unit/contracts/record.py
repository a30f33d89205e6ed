"""Writes golden samples of contracts and fields that are new. What is recorded already is never touched.

Run `python -m tests.unit.contracts.record`, look at the diff, and check it in. A sample may be edited by hand only
as long as nothing of its kind was released.
"""

import json
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings

from perdure.contracts._base import Contract
from tests.unit.contracts.strategies import CONTRACTS, field_values, full_contracts
from tests.unit.contracts.test_contracts import GOLDEN, as_json, recorded, written_names

_QUICK = settings(
    max_examples=300,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
"""Making a sample smaller takes minutes where contracts are nested, and nobody needs it."""


def has_no_default(value: Contract) -> bool:
    """Say whether every field is written; of a url and a blob one is."""
    fields = {
        name: field for name, field in type(value).model_fields.items() if name not in ("url", "blob", "kind")
    }
    return all(field.is_required() or getattr(value, name) != field.default for name, field in fields.items())


def sample(cls: type[Contract]) -> dict[str, Any]:
    """Return a full sample, the fields that must be there, and the defaults of the others."""
    value = find(full_contracts(cls), has_no_default, settings=_QUICK)
    full, names = recorded(value), written_names(cls)
    must = {
        names[name] for name, field in cls.model_fields.items() if field.is_required() or name in ("kind", "url")
    }
    minimal = {name: each for name, each in full.items() if name in must}
    read = cls.model_validate(minimal)
    defaults = {names[n]: as_json(getattr(read, n)) for n in names if names[n] not in minimal}
    return {"full": full, "minimal": minimal, "defaults": defaults}


def with_new_fields(cls: type[Contract], known: dict[str, Any]) -> dict[str, Any]:
    """Return a sample with the fields that are new, each found by itself: all of them together take long."""
    written = {*known["full"], *known["minimal"], *known["defaults"]}
    value, names = cls.model_validate(known["full"]), written_names(cls)
    new = {name: field for name, field in cls.model_fields.items() if names[name] not in written}
    found = {
        name: find(field_values(field), lambda each, f=field: each != f.default) for name, field in new.items()
    }
    full = recorded(value.model_copy(update=found))
    return {
        "full": {**{names[name]: full[names[name]] for name in new}, **known["full"]},
        "minimal": known["minimal"],
        "defaults": {**{names[name]: as_json(field.default) for name, field in new.items()}, **known["defaults"]},
    }


def main() -> None:
    """Add what is new."""
    for cls in CONTRACTS:
        path = GOLDEN / f"{cls.__name__}.json"
        known = json.loads(path.read_text()) if path.exists() else None
        names = set(written_names(cls).values())
        if known is not None and names <= {*known["full"], *known["minimal"], *known["defaults"]}:
            continue
        new = sample(cls) if known is None else with_new_fields(cls, known)
        path.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
