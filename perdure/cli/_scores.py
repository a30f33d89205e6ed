"""Printing the scoreboard."""

from perdure.cli._context import say
from perdure.cli._format import clean, one_line
from perdure.cli._render import console, print_json, print_table
from perdure.contracts.scores import Outcome, ScoreRow, ScoreTable

_COLUMNS = ("KIND", "AGENT OR MODEL", "DONE", "FAILED", "RECENT", "SCORE", "COST", "SECONDS", "NOTE")


def print_table_of(table: ScoreTable) -> None:
    """Print a line for each agent, and each model, at each kind of work."""
    if not table.rows:
        say("No outcomes yet.")
        return
    print_table(console(), _COLUMNS, [_cells(row) for row in table.rows])


def print_judgement(outcome: Outcome, output: str) -> None:
    """Say what the scoreboard was told; as JSON on stdout."""
    if output != "text":
        print_json(outcome, output)
    else:
        of_kind = f" for {outcome.kind}" if outcome.kind else ""
        say(clean(f"Scored {outcome.agent} {outcome.score:g}{of_kind}."))


def _cells(row: ScoreRow) -> tuple[str, ...]:
    return (
        one_line(row.kind) or "-",
        one_line(row.name),
        str(row.successes),
        str(row.failures),
        _number(row.recent_success, ".2f"),
        _number(row.mean_score, ".2f") + (f" ({row.scores})" if row.scores else ""),
        "-" if row.mean_cost_usd is None else f"${row.mean_cost_usd:.4f}",
        _number(row.mean_seconds, ".1f"),
        one_line(row.note, 60),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
