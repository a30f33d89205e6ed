"""Where a worker's log goes, and how it looks. Lines are written by whoever logs."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from perdure.settings import Settings

_CHATTY = ("httpx", "httpcore", "watchfiles", "asyncio", "temporalio")
_FAILED_CALL = "temporalio.activity"


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment: a live display may have put its own in place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr


class _Lines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(_shorten(record))


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record = _shorten(record)
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _shorten(record: logging.LogRecord) -> logging.LogRecord:
    """Return a failed call as a line: its error is one of ours, and says what there is to say."""
    from perdure.errors import PerdureError

    context: dict[str, Any] | None = getattr(record, "temporal_activity", None)
    error = record.exc_info[1] if record.exc_info else None
    if record.name != _FAILED_CALL or context is None or not isinstance(error, PerdureError):
        return record
    short = logging.makeLogRecord(record.__dict__)
    call = str(context.get("activity_type", "")).removeprefix("perdure.")
    short.msg = f"{context.get('workflow_id')}: {call} failed, attempt {context.get('attempt')}: {error.message}"
    short.args, short.exc_info, short.exc_text, short.name = None, None, None, "perdure"
    return short


def configure_logging(settings: "Settings", *, level: str | None = None) -> None:
    """Log to stderr, at the level of the settings or at `level`."""
    handler = _StderrHandler()
    handler.setFormatter(_JsonLines() if settings.json_logs else _Lines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level or settings.log_level)
    if root.level > logging.DEBUG:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
