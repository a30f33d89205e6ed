"""Hooks of pytest: with PERDURE_REQUIRE_ALL=1 nothing is skipped: a test that would be fails, and says why."""

import os
from collections.abc import Generator
from typing import Any

import pytest

VARIABLE = "PERDURE_REQUIRE_ALL"
_given = os.environ.get(VARIABLE, "") not in ("", "0")
_required = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Take the variable in, before the tests' environment is cleaned of it."""
    told: dict[str, Any] = getattr(config, "workerinput", {})
    config.stash[_required] = bool(told.get(VARIABLE, _given))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell it to a process of pytest-xdist, whose environment is a clean one."""
    node.workerinput[VARIABLE] = _given


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure."""
    report = yield
    if report.skipped and item.config.stash[_required] and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{VARIABLE} is set, and this test would be skipped. {reason}"
    return report
