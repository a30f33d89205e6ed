"""What agents have cost, from the server's list of runs. Client side; no worker is asked.

A run's search attributes hold its own sum, without its children, which are runs too, and the agent and model that
it began with. Where these don't tell all it has a bill in its memo (`workflows/_bills.py`): after a fallback or a
handoff, of a run that was started again, and of a workflow of the user's own with inline agents. Both come with
the list, 200 runs a page. One request for each run is made where a server lacks the attributes. A history is read
where the run could tell nothing, since it was terminated or timed out, or was reset. A chain counts with its last
run.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from perdure._search_attributes import existing_search_attributes
from perdure.client._runs import list_executions, read_attributes, status_name
from perdure.contracts.bill import Bill
from perdure.contracts.names import AGENT_WORKFLOW, BILL_MEMO
from perdure.contracts.run import RunResult
from perdure.contracts.usage import Usage
from perdure.history import read_run

CostBy = Literal["agent", "model", "tenant", "day", "run"]
_MOST_RUNS = 1_000_000
_AT_A_TIME = 200
_AT_ONCE = 8
"""Histories and results that are read at the same time."""
_ENDED = ("completed", "failed", "cancelled")
"""States that a run writes together with its final sums."""


class CostRow(BaseModel):
    """What some runs have cost."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The agent, model, tenant, day or workflow id; empty where a run has none."""
    runs: int = 0
    """A run that paid for several agents or models is in the row of each, and once in the total."""
    open: int = 0
    """Runs that are not over: what they have spent so far isn't counted."""
    unknown: int = 0
    """Closed runs of which not all of the cost is known; what isn't is not counted either."""
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
    is_partial: bool = False
    """The server lacks perdure's search attributes, by which workflows of the user's own are found: without what
    inline agents spent in those."""


@dataclass(frozen=True)
class _Charge:
    """A part of what a run paid."""

    agent: str
    model: str
    tokens: int
    cost_usd: Decimal | None


@dataclass(frozen=True)
class _Run:
    """A run as the server lists it."""

    info: WorkflowExecutionInfo
    attributes: dict[str, Any]

    @property
    def status(self) -> str:
        return status_name(self.info.status)

    @property
    def is_agents(self) -> bool:
        return self.info.type.name == AGENT_WORKFLOW

    def told(self, name: str) -> str:
        return str(self.attributes.get(name, ""))

    def charge(self, tokens: int, cost_usd: Decimal | None) -> _Charge:
        """Return a charge on the agent and the model that the run began with."""
        return _Charge(self.told("PerdureAgent"), self.told("PerdureModel"), tokens, cost_usd)


async def read_costs(client: Client, *, since: timedelta | None, by: CostBy) -> CostReport:
    """Add up the costs of runs that started within `since`."""
    start = None if since is None else datetime.now(UTC) - since
    has_attributes = "PerdureTokens" in await existing_search_attributes(client)
    rows: dict[str, CostRow] = {}
    total = CostRow(name="total")
    reader = _Reader(client)
    async for runs in _batches(client, _query(start, has_attributes=has_attributes)):
        found = await asyncio.gather(*(reader.charges(run) for run in runs))
        for run, charges in zip(runs, found, strict=True):
            for row in _rows(run, charges, by):
                rows[row.name] = rows[row.name].plus(row) if row.name in rows else row
            total = total.plus(_row(run, "total", charges))
    ordered = sorted(rows.values(), key=lambda row: (row.name,) if by == "day" else (-row.cost_usd, row.name))
    return CostReport(by=by, rows=tuple(ordered), total=total, is_partial=not has_attributes)


def _query(start: datetime | None, *, has_attributes: bool) -> str:
    kind = f"WorkflowType = '{AGENT_WORKFLOW}'"
    kind = f"({kind} OR PerdureTokens >= 0)" if has_attributes else kind
    query = f"{kind} AND ExecutionStatus != 'ContinuedAsNew'"
    if start is not None:
        query += f" AND StartTime >= '{start.isoformat()}'"
    return query


async def _batches(client: Client, query: str) -> AsyncIterator[list[_Run]]:
    batch: list[_Run] = []
    async for info in list_executions(client, query, _MOST_RUNS):
        batch.append(_Run(info, read_attributes(info, client)))
        if len(batch) == _AT_A_TIME:
            yield batch
            batch = []
    yield batch


def _rows(run: _Run, charges: tuple[_Charge, ...] | None, by: CostBy) -> Iterable[CostRow]:
    """Yield what a run adds to the rows, by name."""
    if by not in ("agent", "model"):
        yield _row(run, _name(run, by), charges)
        return
    own = run.told("PerdureAgent" if by == "agent" else "PerdureModel")
    parts: dict[str, list[_Charge]] = {}
    for charge in charges or ():
        parts.setdefault(charge.agent if by == "agent" else charge.model, []).append(charge)
    if not parts:
        yield _row(run, own, charges)
    for name, part in parts.items():
        yield _row(run, name, tuple(part))


def _name(run: _Run, by: CostBy) -> str:
    match by:
        case "run":
            return run.info.execution.workflow_id
        case "day":
            return run.info.start_time.ToDatetime(tzinfo=UTC).date().isoformat()
        case _:
            return run.told("PerdureTenant")


def _row(run: _Run, name: str, charges: tuple[_Charge, ...] | None) -> CostRow:
    if charges is None:
        is_open = run.status in ("running", "paused")
        return CostRow(name=name, runs=1, open=int(is_open), unknown=int(not is_open))
    known = [charge.cost_usd for charge in charges if charge.cost_usd is not None]
    return CostRow(
        name=name,
        runs=1,
        unknown=int(len(known) < len(charges)),
        tokens=sum(charge.tokens for charge in charges),
        cost_usd=sum(known, Decimal(0)),
    )


class _Reader:
    """Finds what runs paid."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def charges(self, run: _Run) -> tuple[_Charge, ...] | None:
        """Return what a closed run paid; None of an open one, and where that can't be known any more."""
        if run.status in ("running", "paused"):
            return None
        bill = await self._bill(run)
        if bill is not None and not bill.is_reset:
            return _charges(bill)
        tokens, cost = run.attributes.get("PerdureTokens"), run.attributes.get("PerdureCostUsd")
        if bill is None and run.is_agents and tokens is not None and run.told("PerdureState") in _ENDED:
            return (run.charge(tokens, None if cost is None else Decimal(str(cost))),)
        async with self._gate:
            with suppress(RPCError):
                if bill is None and run.is_agents and run.status == "completed":
                    return await self._from_result(run)
                return await self._from_history(run)
        return None

    async def _bill(self, run: _Run) -> Bill | None:
        """Return the bill in a run's memo."""
        memo = run.info.memo.fields
        if BILL_MEMO not in memo:
            return None
        return (await self._client.data_converter.decode([memo[BILL_MEMO]], [Bill]))[0]

    async def _from_result(self, run: _Run) -> tuple[_Charge, ...] | None:
        """Read the result, where the server lacks the search attributes: without a bill one model was asked."""
        execution = run.info.execution
        handle: Any = self._client.get_workflow_handle(
            execution.workflow_id, run_id=execution.run_id, result_type=RunResult
        )
        with suppress(WorkflowFailureError):
            result: RunResult = await handle.result(follow_runs=False)
            return (_charge(result.agent, result.model, result.counters.usage),)
        return None

    async def _from_history(self, run: _Run) -> tuple[_Charge, ...]:
        execution = run.info.execution
        return _charges((await read_run(self._client, execution.workflow_id, execution.run_id)).bill)


def _charges(bill: Bill) -> tuple[_Charge, ...]:
    return tuple(_charge(item.agent, item.model, item.usage) for item in bill.items)


def _charge(agent: str, model: str, usage: Usage) -> _Charge:
    return _Charge(agent, model, usage.total_tokens, usage.cost_usd)
