"""What log lines say of failures, by default and for those who want content."""

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.worker import Worker

from perdure.cli._log_texts import discreet
from perdure.cli._logging import configure_logging
from perdure.errors import EncryptionError, ModelCallError, ToolError
from perdure.settings import Settings

SDK = sys.modules[Worker.__module__].__file__ or ""
CALL = {"temporal_activity": {"activity_type": "perdure.call_tool", "attempt": 2}}
MARK = "MARKED"


def raised(error: Exception) -> Any:
    try:
        raise error from KeyError(MARK)
    except type(error):
        return sys.exc_info()


def record(name: str, message: str, error: Exception | None = None, **fields: Any) -> logging.LogRecord:
    made = {"name": name, "msg": message, "pathname": SDK, "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({**made, "exc_info": raised(error) if error else None, **fields})


def failed_call(error: Exception) -> logging.LogRecord:
    identified = {"__temporal_error_identifier": "ActivityFailure"}
    return record("temporalio.activity", "Completing activity as failed", error, **CALL, **identified)


def told(made: logging.LogRecord, *, has_content: bool = False) -> str:
    return logging.Formatter("%(name)s: %(message)s").format(discreet(made, has_content=has_content))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ToolError(f"look failed: {MARK}", tool="look", error="ValueError"),
            "ToolError (tool=look, error=ValueError)",
        ),
        (
            ModelCallError(MARK, kind="rate_limited", status_code=429),
            "ModelCallError (kind=rate_limited, status_code=429)",
        ),
        (EncryptionError("It needs the key 'one'."), "It needs the key 'one'."),
    ],
)
def test_a_failed_call_is_a_line_without_its_text(error: Any, said: str) -> None:
    assert told(failed_call(error)) == f"perdure: call_tool failed, attempt 2: {said}"
    assert told(failed_call(error), has_content=True) == f"perdure: call_tool failed, attempt 2: {error.message}"


def test_another_failure_keeps_the_places_in_the_code() -> None:
    text = told(failed_call(ValueError(MARK)))
    assert text.startswith("perdure: call_tool failed, attempt 2: ValueError\n")
    assert MARK not in text.replace("from KeyError(MARK)", "")
    assert "in raised" in text
    assert text.index("KeyError") < text.index("From this came") < text.rindex("ValueError")
    assert f"ValueError: {MARK}" in told(failed_call(ValueError(MARK)), has_content=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temporalio.worker._workflow_instance", "Failed activation on workflow Order"),
        ("temporalio.worker._activity", f"Exception handling failed, original error: {MARK}"),
        ("asyncio", f"Task exception was never retrieved\nfuture: <Task exception=ValueError({MARK!r})>"),
    ],
)
def test_what_libraries_say_of_errors_has_no_text_of_theirs(name: str, message: str) -> None:
    text = told(record(name, message, ValueError(MARK)))
    assert MARK not in text.replace("from KeyError(MARK)", "")
    assert "in raised" in text
    assert MARK in told(record(name, message, ValueError(MARK)), has_content=True)


def test_temporals_core_tells_its_own_failures_alone() -> None:
    def said(failure: str) -> str:
        fields = {"run_id": "r-1", "failure": failure}
        core = SimpleNamespace(fields=fields, target="w", message="Failing workflow task")
        text = f"[sdk_core::w] Failing workflow task {fields}"
        return told(record("temporalio-sdk_core::w", text, temporal_log=core))

    assert said(f"Failure {{ message: {MARK} }}").endswith("[sdk_core::w] Failing workflow task {'run_id': 'r-1'}")
    assert "TMPRL1100" in said("Failure { message: [TMPRL1100] Nondeterminism error }")


def test_what_users_log_stays_as_it_is() -> None:
    own = {"pathname": "/home/me/app.py"}
    for name in ("shop", "temporalio.activity", "temporalio.workflow"):
        text = told(record(name, "It failed", ValueError(MARK), **own, **CALL))
        assert f"ValueError: {MARK}" in text
        assert "It failed" in text


@pytest.mark.parametrize("is_json", [False, True])
def test_both_formats_keep_to_it(capsys: pytest.CaptureFixture[str], is_json: bool) -> None:
    configure_logging(Settings(json_logs=is_json))
    logging.getLogger("temporalio.activity").handle(failed_call(ValueError(MARK)))
    written = capsys.readouterr().err
    assert "call_tool failed, attempt 2: ValueError" in written
    assert MARK not in written.replace("from KeyError(MARK)", "")
    if is_json:
        assert "in raised" in json.loads(written)["traceback"]
