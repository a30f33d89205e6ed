"""What a log line says of a failure: not the error's text, which may quote a conversation. Pure."""

import logging
from collections.abc import Iterator
from pathlib import Path
from traceback import format_tb
from typing import Any, cast

from temporalio.exceptions import ApplicationError

from perdure.errors import PerdureError, ServerError, SettingsError, UnknownModelError

_IS_FAILED_CALL = "ActivityFailure"
_FACTS = ("tool", "error", "kind", "status_code", "held_by", "attempts")
"""Attributes of our errors that say nothing of what was said."""
_OPERATIONAL = (ServerError, SettingsError, UnknownModelError)
"""What these say is for operators: it names settings, variables and addresses."""
_TEMPORALS_OWN = "TMPRL"
"""Temporal's codes, such as that of a non-deterministic deploy: such a failure quotes no user."""
_QUOTES = ", original error:"


def discreet(record: logging.LogRecord, *, has_content: bool) -> logging.LogRecord:
    """Return a record as it is to be written: a failed call as a line, and no content but for those who want it.

    What users log themselves, by Temporal's loggers too, stays as it is.
    """
    if not record.name.startswith(("temporalio", "asyncio")):
        return record
    error = record.exc_info[1] if record.exc_info else None
    if getattr(record, "__temporal_error_identifier", "") == _IS_FAILED_CALL and error is not None:
        return _failed_call(record, error, has_content=has_content)
    if has_content or not _is_written_by_library(record):
        return record
    return _without_texts(record, error)


def _failed_call(record: logging.LogRecord, error: BaseException, *, has_content: bool) -> logging.LogRecord:
    if has_content and not isinstance(error, PerdureError):
        return record
    context = cast("dict[str, Any]", getattr(record, "temporal_activity", None) or {})
    call = str(context.get("activity_type", "")).removeprefix("perdure.")
    told = _facts(error)
    if isinstance(error, _OPERATIONAL) or (has_content and isinstance(error, PerdureError)):
        told = error.message
    short = _replaced(record, f"{call} failed, attempt {context.get('attempt')}: {told}")
    short.name = "perdure"
    if not isinstance(error, PerdureError):
        short.exc_text = _frames(error)
    return short


def _facts(error: BaseException) -> str:
    """Return what kind of error it is."""
    attributes = error.attributes if isinstance(error, PerdureError) else {}
    facts = [f"{name}={attributes[name]}" for name in _FACTS if attributes.get(name) is not None]
    kind = (error.type if isinstance(error, ApplicationError) else None) or type(error).__name__
    return f"{kind} ({', '.join(facts)})" if facts else kind


def _is_written_by_library(record: logging.LogRecord) -> bool:
    """Tell Temporal's and asyncio's own lines from those that a user's code writes by their loggers."""
    is_core = hasattr(record, "temporal_log")
    return is_core or record.name == "asyncio" or "temporalio" in Path(record.pathname).parts


def _without_texts(record: logging.LogRecord, error: BaseException | None) -> logging.LogRecord:
    core: Any = getattr(record, "temporal_log", None)
    if core is not None:
        return _replaced(record, _without_failure(core) or record.getMessage())
    if error is None:
        return record
    short = _replaced(record, record.getMessage().partition("\n")[0].partition(_QUOTES)[0])
    short.exc_text = _frames(error)
    return short


def _without_failure(core: Any) -> str:
    """Return a line of Temporal's core without what made a workflow task fail; empty if it may say that."""
    fields: dict[str, Any] = core.fields
    failure = str(fields.get("failure", ""))
    if not failure or _TEMPORALS_OWN in failure:
        return ""
    rest = {name: value for name, value in fields.items() if name != "failure"}
    return f"[sdk_core::{core.target}] {core.message} {rest}"


def _replaced(record: logging.LogRecord, message: str) -> logging.LogRecord:
    short = logging.makeLogRecord(record.__dict__)
    short.msg, short.args, short.exc_info, short.exc_text = message, None, None, None
    return short


def _frames(error: BaseException) -> str:
    """Return the traceback of an error after those of its causes, with their types in place of their texts."""
    told = [f"{''.join(format_tb(each.__traceback__))}{type(each).__qualname__}" for each in _chain(error)]
    return "\n\nFrom this came:\n\n".join(reversed(told))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        yield here
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
