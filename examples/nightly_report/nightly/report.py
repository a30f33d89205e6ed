"""The workflow: each log is read by an agent at once, and what they found becomes one file.

Temporal's sandbox imports this module for each run, so it imports nothing heavy.
"""

from pydantic import BaseModel
from temporalio import workflow

from perdure.errors import PerdureError
from perdure.workflows import call_tool, gather, run_agent


class Report(BaseModel):
    """What the workflow ends with."""

    date: str
    """Of the night, as YYYY-MM-DD in UTC."""
    path: str
    failed: list[str]
    """Logs that no agent could read; the report says so."""


@workflow.defn(name="NightlyReport")
class NightlyReport:
    """Writes the report of the day on which it is started."""

    @workflow.run
    async def run(self) -> Report:
        """Read, gather, write."""
        date = workflow.now().strftime("%Y-%m-%d")
        logs = (await call_tool("list_logs", {})).split()
        found = await gather(
            *(run_agent("log_reader", f"Which errors are in the log `{log}`?") for log in logs),
            on_error="collect",
            max_parallel=4,
        )
        failed = [log for log, each in zip(logs, found, strict=True) if isinstance(each, PerdureError)]
        sections = [f"## {log}\n\n{_told(each)}\n" for log, each in zip(logs, found, strict=True)]
        text = f"# {date}\n\n" + "\n".join(sections)
        path = await call_tool("write_report", {"date": date, "text": text})
        return Report(date=date, path=path, failed=failed)


def _told(found: str | BaseException) -> str:
    return f"(not read: {found})" if isinstance(found, BaseException) else found
