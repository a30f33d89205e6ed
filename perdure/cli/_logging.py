"""Where a worker's log goes, and how it looks. Lines are written by whoever logs."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from perdure.cli._log_texts import discreet

if TYPE_CHECKING:
    from perdure.settings import Settings

_CHATTY = ("httpx", "httpcore", "watchfiles", "asyncio", "temporalio")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment: a live display may have put its own in place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr


class Context(logging.Filter):
    """Adds to a record, where it is made, which run and which span it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.perdure_context = _ids() or _told_by_temporal(record)
        return True


def _ids() -> dict[str, Any]:
    """Return the ids of the call or the workflow that runs here, and of its span."""
    if "temporalio.activity" not in sys.modules:
        return {}
    from temporalio import activity, workflow

    found: dict[str, Any] = {}
    if activity.in_activity():
        info = activity.info()
        found = {"workflow_id": info.workflow_id, "run_id": info.workflow_run_id}
        found |= {"activity": info.activity_type, "attempt": info.attempt}
    elif workflow.in_workflow():
        run = workflow.info()
        found = {"workflow_id": run.workflow_id, "run_id": run.run_id}
    return {name: value for name, value in (found | _span_ids()).items() if value is not None}


def _told_by_temporal(record: logging.LogRecord) -> dict[str, Any]:
    """Return what Temporal's loggers have put into the record."""
    told: dict[str, Any] = (
        getattr(record, "temporal_activity", None) or getattr(record, "temporal_workflow", None) or {}
    )
    return {name: told[name] for name in ("workflow_id", "run_id") if told.get(name)}


def _span_ids() -> dict[str, str]:
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    span = api.get_current_span().get_span_context()
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}


class _Lines(logging.Formatter):
    def __init__(self, *, has_content: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        self._has_content = has_content

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(discreet(record, has_content=self._has_content))
        ids: dict[str, Any] = getattr(record, "perdure_context", {})
        shown = " ".join(f"{name}={ids[name]}" for name in ("workflow_id", "trace_id") if name in ids)
        head, newline, rest = line.partition("\n")
        return f"{head} [{shown}]{newline}{rest}" if shown else line


class _JsonLines(logging.Formatter):
    def __init__(self, *, has_content: bool) -> None:
        super().__init__()
        self._has_content = has_content

    def format(self, record: logging.LogRecord) -> str:
        record = discreet(record, has_content=self._has_content)
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "perdure_context", {}),
        }
        if trace := self.formatException(record.exc_info) if record.exc_info else record.exc_text:
            line["traceback"] = trace
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: "Settings", *, level: str | None = None) -> None:
    """Log to stderr, at the level of the settings or at `level`."""
    handler = _StderrHandler()
    kind = _JsonLines if settings.json_logs else _Lines
    handler.setFormatter(kind(has_content=settings.telemetry.content))
    handler.addFilter(Context())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level or settings.log_level)
    if root.level > logging.DEBUG:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
