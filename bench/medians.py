"""Medians of ratios that were taken in turns, with their standard errors: what other work leaves."""

from collections.abc import Sequence
from math import sqrt
from statistics import median
from typing import Final

from bench.report import Report

_NORMAL: Final = 1.858
"""Median deviations in a standard error of a median, where things are normal: 1.4826 · √(π/2)."""
_MOST_ERROR: Final = 0.01
"""Of a median that is near what it is judged by."""


def told(found: Sequence[float]) -> str:
    """Return a median with its standard error, as text."""
    return f"{median(found):.3f} ± {error_of(found):.3f}"


def error_of(found: Sequence[float]) -> float:
    """Return the standard error of the median, by the median deviation: other work makes outliers."""
    middle = median(found)
    return _NORMAL * median(abs(each - middle) for each in found) / sqrt(len(found))


def judge_ratio(report: Report, text: str, found: Sequence[float], *, at_most: float) -> None:
    """Judge ratios by their median, where its error is small, or leaves no doubt."""
    middle, error = median(found), error_of(found)
    text = f"{text} (at most {at_most})"
    if middle - 2 * error > at_most:
        report.target(text, is_met=False)
    elif middle + 2 * error <= at_most or (middle <= at_most and error <= _MOST_ERROR):
        report.target(text, is_met=True)
    else:
        report.unmeasured(f"not measured: {text}; more rounds, or a quieter machine, would tell")
