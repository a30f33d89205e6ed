"""What agents' runs have cost, from search attributes and results. Client side; no worker is asked.

A run's attributes hold its own cost, without that of its children, which are runs too: nothing counts twice. They
are written when it closes; a run that continued as new counts with the last of its chain.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from perdure.client._runs import list_executions, read_attributes, status_name
from perdure.client._show import count
from perdure.contracts.names import AGENT_WORKFLOW
from perdure.contracts.run import RunResult
from perdure.contracts.usage import Usage
from perdure.history import read_run

CostBy = Literal["agent", "model", "tenant", "day", "run"]
_MOST_RUNS = 1_000_000


class CostRow(BaseModel):
    """What some runs have cost."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The agent, model, tenant, day or workflow id; empty where a run has none."""
    runs: int = 0
    open: int = 0
    """Runs that are not over: what they have spent so far isn't counted."""
    unknown: int = 0
    """Closed runs of which the cost is not known; it isn't counted either."""
    tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def plus(self, other: "CostRow") -> "CostRow":
        """Return the sum, under this name."""
        return CostRow(
            name=self.name,
            runs=self.runs + other.runs,
            open=self.open + other.open,
            unknown=self.unknown + other.unknown,
            tokens=self.tokens + other.tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


class CostReport(BaseModel):
    """Rows, the dearest first (days in order), and their sum."""

    model_config = ConfigDict(frozen=True)

    by: CostBy
    rows: tuple[CostRow, ...] = ()
    total: CostRow


async def read_costs(client: Client, *, since: timedelta | None, by: CostBy) -> CostReport:
    """Add up the costs of runs that started within `since`."""
    rows: dict[str, CostRow] = {}
    total = CostRow(name="total")
    async for info in _runs(client, since):
        attributes = read_attributes(info, client)
        row = await _row(client, info, attributes, by)
        rows[row.name] = rows[row.name].plus(row) if row.name in rows else row
        total = total.plus(row)
    ordered = sorted(rows.values(), key=lambda row: (row.name,) if by == "day" else (-row.cost_usd, row.name))
    return CostReport(by=by, rows=tuple(ordered), total=total)


def _runs(client: Client, since: timedelta | None) -> AsyncIterator[WorkflowExecutionInfo]:
    query = f"WorkflowType = '{AGENT_WORKFLOW}' AND ExecutionStatus != 'ContinuedAsNew'"
    if since is not None:
        start = datetime.now(UTC) - since
        query += f" AND StartTime >= '{start.isoformat()}'"
    return list_executions(client, query, _MOST_RUNS)


async def _row(client: Client, info: WorkflowExecutionInfo, attributes: dict[str, Any], by: CostBy) -> CostRow:
    name = _name(info, attributes, by)
    if status_name(info.status) in ("running", "paused"):
        return CostRow(name=name, runs=1, open=1)
    tokens, cost = attributes.get("PerdureTokens"), attributes.get("PerdureCostUsd")
    is_told = tokens is not None and status_name(info.status) in ("completed", "failed")
    if not is_told:
        usage = await _usage(client, info)
        if usage is None:
            return CostRow(name=name, runs=1, unknown=1)
        tokens, cost = usage.total_tokens, usage.cost_usd
    known = None if cost is None else Decimal(str(cost))
    return CostRow(name=name, runs=1, unknown=known is None, tokens=tokens or 0, cost_usd=known or Decimal(0))


def _name(info: WorkflowExecutionInfo, attributes: dict[str, Any], by: CostBy) -> str:
    if by == "run":
        return info.execution.workflow_id
    if by == "day":
        return info.start_time.ToDatetime(tzinfo=UTC).date().isoformat()
    names = {"agent": "PerdureAgent", "model": "PerdureModel", "tenant": "PerdureTenant"}
    return str(attributes.get(names[by], ""))


async def _usage(client: Client, info: WorkflowExecutionInfo) -> Usage | None:
    """Read what a run used, where its search attributes don't say: the server lacks them, or it was ended."""
    execution = info.execution
    with suppress(RPCError):
        if status_name(info.status) != "completed":
            return count(await read_run(client, execution.workflow_id, execution.run_id)).usage
        handle: Any = client.get_workflow_handle(
            execution.workflow_id, run_id=execution.run_id, result_type=RunResult
        )
        with suppress(WorkflowFailureError):
            result: RunResult = await handle.result(follow_runs=False)
            return result.counters.usage
    return None
