"""Tables, targets and figures of a measurement."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def say(text: str) -> None:
    """Tell the user what goes on; results go to stdout."""
    print(text, file=sys.stderr, flush=True)


_MARKS = {True: "PASS", False: "FAIL", None: "----"}


@dataclass
class Report:
    """What one part found.

    Attributes:
        figures: For `--json`.
        targets: What was to be shown, and whether it was; None where the measurement can't tell.
    """

    name: str
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    targets: list[tuple[str, bool | None]] = field(default_factory=list[tuple[str, bool | None]])

    def target(self, text: str, *, is_met: bool) -> None:
        """Note a target; `text` has the measured figure in it."""
        self.targets.append((text, is_met))

    def unmeasured(self, text: str) -> None:
        """Note a target that the measurement can't judge; `text` says why."""
        self.targets.append((text, None))

    @property
    def is_met(self) -> bool:
        """Whether no target was missed."""
        return all(is_met is not False for _, is_met in self.targets)

    def print_targets(self) -> None:
        """Print each target with a mark."""
        for text, is_met in self.targets:
            print(f"  {_MARKS[is_met]}  {text}")

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        targets = [{"target": text, "is_met": is_met} for text, is_met in self.targets]
        return {"figures": self.figures, "targets": targets}


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  " + "  ".join(cells))
    sys.stdout.flush()
