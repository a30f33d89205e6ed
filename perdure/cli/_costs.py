"""Printing what runs have cost."""

from perdure.cli._context import say
from perdure.cli._format import cost, one_line
from perdure.cli._render import console, print_items, print_json, print_table
from perdure.client import CostReport, CostRow


def print_costs(report: CostReport, output: str) -> None:
    """Print a line for each row, and the total; as `jsonl` the rows alone."""
    if report.is_partial:
        say(
            "Without what agents spent inline, in workflows of your own: the server lacks perdure's search"
            " attributes. `perdure doctor --fix` registers them."
        )
    if output == "json":
        print_json(report, output)
    elif output == "jsonl":
        print_items(report.rows, output)
    elif not report.rows:
        say("No runs.")
    else:
        columns = ("COST", "TOKENS", "RUNS", "OPEN", "UNKNOWN", report.by.upper())
        print_table(console(), columns, [_cells(row) for row in (*report.rows, report.total)])


def _cells(row: CostRow) -> tuple[str, ...]:
    counts = (f"{row.tokens:,}", f"{row.runs:,}", str(row.open or ""), str(row.unknown or ""))
    return (cost(row.cost_usd), *counts, one_line(row.name) or "-")
