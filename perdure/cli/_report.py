"""Printing what `perdure doctor` found."""

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from perdure.cli._checks import Finding
from perdure.cli._format import plural
from perdure.cli._render import console, print_rows

_STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "problem": "bold red"}


def print_report(findings: Sequence[Finding]) -> None:
    """Print the findings by section, the remedy of each under it."""
    out = console()
    for section, group in groupby(findings, key=lambda each: each.section):
        out.print(Text(section, style="bold"))
        rows: list[tuple[str | Text, ...]] = []
        for each in group:
            mark = Text("" if each.status == "note" else each.status, style=_STYLES[each.status])
            body = f"{each.value}  ({each.source})" if each.source else each.value
            rows.append((mark, each.name, "\n".join(filter(None, (body, each.remedy)))))
        print_rows(out, rows, widths=(7, 28))
        out.print()
    problems = sum(each.status == "problem" for each in findings)
    warnings = sum(each.status == "warning" for each in findings)
    if problems or warnings:
        out.print(f"{plural(problems, 'problem')}, {plural(warnings, 'warning')}.")
    else:
        out.print("All is well.")
