from bench.report import Report
from bench.stack import Stack


async def measure_memory(stack: Stack, *, is_quick: bool) -> Report:
    return Report("memory")
