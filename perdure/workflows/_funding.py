"""Running a child agent on a part of its parent's budget. Workflow side."""

from perdure.contracts.limits import Limits
from perdure.contracts.run import EarlierRun, RunInput, RunResult
from perdure.workflows._meter import Meter
from perdure.workflows._subagents import new_child_id, run_child


async def run_funded(
    request: RunInput,
    meter: Meter | None,
    *,
    of: int,
    limits: Limits,
    workflow_id: str | None = None,
    earlier: EarlierRun | None = None,
) -> RunResult:
    """Run an agent as a child, as `run_child` does.

    Args:
        request: The run's input.
        meter: The parent's; None where no limit of money or tokens holds.
        of: The child begins with one of so many equal parts of what is free.
        limits: The parent's.
        workflow_id: The child's id; by call order when None.
        earlier: The run to go on from.
    """
    if meter is None:
        return await run_child(request, workflow_id=workflow_id, earlier=earlier)
    child = workflow_id or new_child_id(request.agent)
    inherited = Limits(allow_unknown_prices=limits.allow_unknown_prices)
    request = request.model_copy(update={"lease": meter.lend(child, of=of), "limits": inherited})
    result: RunResult | None = None
    try:
        result = await run_child(
            request, workflow_id=child, earlier=earlier, on_started=lambda: meter.started(child)
        )
        return result
    finally:
        meter.close(child, result)
