"""The names that users import: each is there, listed once and in order."""

from importlib import import_module

import pytest

PACKAGES = ("perdure", "perdure.client", "perdure.testing", "perdure.tools", "perdure.workflows")


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_there_and_in_order(package: str) -> None:
    module = import_module(package)
    names: list[str] = module.__all__
    assert names == sorted(set(names), key=lambda name: (name[0].islower(), name))
    assert all(getattr(module, name) is not None for name in names)
    assert not [name for name in names if name.startswith("_")]
