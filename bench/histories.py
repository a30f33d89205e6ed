"""Part `history`: a conversation's history grows with what is said, not with how often it is said."""

from bench.report import Report
from bench.stack import Stack


async def measure_history(stack: Stack, *, is_quick: bool) -> Report:
    return Report("history")
