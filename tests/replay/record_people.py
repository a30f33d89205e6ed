"""Record runs that wait for people: approvals over Continue-As-New, questions, and steps of a workflow."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from perdure import Limits
from perdure.client import PerdureClient, StartedRun
from perdure.contracts.waits import Wait
from perdure.errors import InvalidInputError
from tests.replay.app import TIME
from tests.support.approval_app import turns

RecordChain = Callable[[PerdureClient, StartedRun, str, Path], Awaitable[None]]
_FILLING = 30
"""Updates that fill the history of a run that waits, so that it continues as new."""


async def record_people(client: PerdureClient, folder: Path, record_chain: RecordChain) -> None:
    """Run each case, decide what it asks for, and write the histories of its runs."""
    made = [("deploy", {"target": name}) for name in ("a", "b", "c")]
    script = turns([*made, ("look", {"number": 1}), ("pay", {"amount": 500}), ("reach", {"target": "ops"})], made)
    run = await client.start_agent("doer", script, id="replay-approvals")
    a, b, c, pay, reach = await _waiting(client, run, 5)
    await client.approve(run.workflow_id, a.id, arguments={"target": "edited", "count": 2})
    await client.deny(run.workflow_id, b.id, reason="Not b.")
    await asyncio.sleep(1)
    for number in range(_FILLING):
        with suppress(InvalidInputError):  # it is continuing
            await client.set_limits(run.workflow_id, Limits(max_turns=100 + number))
    await _waiting(client, run, 3)
    for wait in (pay, reach):
        await client.approve(run.workflow_id, wait.id)
    await client.approve(run.workflow_id, c.id, is_always=True)
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "approvals", folder)
    run = await client.start_agent("doer", turns([("ask_human", {"question": "Which?"})]), id="replay-questions")
    await _waiting(client, run, 1)
    await client.answer(run.workflow_id, "that")
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "questions", folder)
    await _record_workflows(client, folder, record_chain)


async def _record_workflows(client: PerdureClient, folder: Path, record_chain: RecordChain) -> None:
    run = await client.start_workflow("Asking", [0.5], id="replay-asking")
    answers: list[JsonValue] = ["Ada", {"width": 2, "height": 3}]
    for answer in answers:
        (wait,) = await _waiting(client, run, 1)
        await client.answer(run.workflow_id, answer, wait.id)
        await asyncio.sleep(0.3)
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "asking", folder)
    script = turns([("deploy", {"target": "inline"})])
    run = await client.start_workflow("Stepping", [script], id="replay-stepping")
    for wait in await _waiting(client, run, 3):
        if json.loads(wait.arguments)["target"] == "b":
            await client.deny(run.workflow_id, wait.id)
        else:
            await client.approve(run.workflow_id, wait.id)
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "stepping", folder)


async def _waiting(client: PerdureClient, run: StartedRun, count: int) -> list[Wait]:
    async with asyncio.timeout(TIME.total_seconds()):
        while len(found := [w for each in await client.waits(run.workflow_id) for w in each.waits]) != count:
            await asyncio.sleep(0.05)
    order: dict[str, Any] = {"deploy": 0, "pay": 1, "reach": 2}
    return sorted(found, key=lambda wait: (order.get(wait.tool, 3), wait.index))
