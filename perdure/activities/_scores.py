"""The way from a worker to the scoreboard: asked rarely, and never waited for. Activity side."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from perdure.contracts.names import OUTCOMES_SIGNAL, SCOREBOARD_QUERY, SCOREBOARD_WORKFLOW
from perdure.contracts.scores import (
    MAX_LABEL_CHARS,
    OutcomeBatch,
    ScoreboardQuery,
    ScoreboardState,
    ScoreRow,
    ScoreTable,
)

PATIENCE = timedelta(seconds=1)
"""How long a run waits for the scoreboard, at most."""
_TTL_SECONDS = 3.0
"""How long an answer is used again; also one that did not come."""
_MAX_KINDS = 1000
_TASK_TIMEOUT = timedelta(seconds=3)

Rows = Mapping[str, ScoreRow]
"""Of one kind, by agent."""


class ScoreboardUnavailable(Exception):
    """It did not answer in time; the text says why."""


@dataclass(frozen=True)
class _Asked:
    at: float
    answer: "asyncio.Task[Rows]"


class ScoreboardReader:
    """Asks for the rows of a kind: once for all that want them within a few seconds.

    Args:
        clock: Says the time, in seconds.
        patience: How long an answer is waited for.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, patience: timedelta = PATIENCE) -> None:
        """Know nothing yet."""
        self._clock = clock
        self._patience = patience
        self._asked: dict[tuple[str, str], _Asked] = {}

    async def rows(self, client: Client, workflow_id: str, kind: str) -> Rows:
        """Return what is known of the agents that did work of a kind; nothing while there is no scoreboard.

        Raises:
            ScoreboardUnavailable: No answer in time.
        """
        key = (workflow_id, kind[:MAX_LABEL_CHARS])
        asked = self._asked.get(key)
        if asked is None or self._clock() - asked.at > _TTL_SECONDS:
            if len(self._asked) >= _MAX_KINDS:
                del self._asked[next(iter(self._asked))]
            self._asked.pop(key, None)
            task = asyncio.create_task(self._ask(client, *key))
            asked = self._asked[key] = _Asked(self._clock(), task)
        return await asyncio.shield(asked.answer)  # who is cancelled takes it from nobody else

    async def _ask(self, client: Client, workflow_id: str, kind: str) -> Rows:
        handle: WorkflowHandle[object, object] = client.get_workflow_handle(workflow_id)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                table = await handle.query(
                    SCOREBOARD_QUERY,
                    ScoreboardQuery(of_kind=kind),
                    result_type=ScoreTable,
                    rpc_timeout=self._patience,
                )
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return {}
            raise ScoreboardUnavailable(_reason(error, self._patience)) from None
        except (TimeoutError, WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
            raise ScoreboardUnavailable(_reason(error, self._patience)) from None
        return {row.name: row for row in table.rows if not row.is_model}


async def send_outcomes(
    client: Client, workflow_id: str, task_queue: str, batch: OutcomeBatch, *, patience: timedelta = PATIENCE
) -> None:
    """Signal a batch to the scoreboard, and start it where there is none.

    Raises:
        ScoreboardUnavailable: The server did not take it in time. It may have, all the same.
    """
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await client.start_workflow(
                SCOREBOARD_WORKFLOW,
                ScoreboardState(),
                id=workflow_id,
                task_queue=task_queue,
                task_timeout=_TASK_TIMEOUT,
                start_signal=OUTCOMES_SIGNAL,
                start_signal_args=[batch],
                static_summary="What became of work, by kind and agent",
                rpc_timeout=patience,
            )
    except (RPCError, TimeoutError) as error:
        raise ScoreboardUnavailable(_reason(error, patience)) from None


def _reason(error: Exception, patience: timedelta) -> str:
    late = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
    if isinstance(error, TimeoutError) or (isinstance(error, RPCError) and error.status in late):
        return f"the scoreboard did not answer within {patience.total_seconds():g} s"
    return f"the scoreboard can't be reached ({str(error)[:200]})"
