"""The agent, the tools and the workflow.

NIGHTLY_MODEL chooses the model, with its vendor's key in the environment. Without it, `offline:reader` answers by
rules, which needs neither key nor network.
"""

import os
from pathlib import Path

from nightly.report import NightlyReport
from perdure import Agent, App, Limits, ToolRetry, tool

LOGS = Path(__file__).parents[1] / "logs"


@tool(idempotent=True, local=True)
def list_logs() -> str:
    """List the names of the logs."""
    return " ".join(sorted(path.name for path in LOGS.glob("*.txt")))


@tool(idempotent=True)
def find_errors(log: str) -> str:
    """Find the errors in a log; each comes back as `path:line: text`.

    Args:
        log: The name of the log, such as gate.txt.
    """
    path = LOGS / log
    if path.parent != LOGS or not path.is_file():
        raise ToolRetry(f"There is no log {log!r}. There are: {list_logs()}.")
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    hits = [f"{log}:{number}: {line}" for number, line in lines if "ERROR" in line]
    return "\n".join(hits) or f"No errors are in the log {log}."


@tool(idempotent=True)
def write_report(date: str, text: str) -> str:
    """Write the report of a day; the same call again writes the same file.

    Args:
        date: YYYY-MM-DD.
        text: All of it.
    """
    folder = Path(os.environ.get("NIGHTLY_OUT", "out"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date}.md"
    path.write_text(text, encoding="utf-8")
    return str(path)


log_reader = Agent(
    "log_reader",
    description="Finds what went wrong in a log.",
    instructions="Look for errors with find_errors; tell each in a sentence, with [source: path:line].",
    model=os.environ.get("NIGHTLY_MODEL") or "offline:reader",
    tools=[find_errors],
    limits=Limits(max_turns=5),
)

app = App(agents=[log_reader], tools=[list_logs, write_report], workflows=[NightlyReport])
