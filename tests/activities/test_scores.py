"""Asking the scoreboard: seldom, within a second, and with an answer for every fault."""

import asyncio
import time
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from perdure.activities._scores import ScoreboardReader, ScoreboardUnavailable, send_outcomes
from perdure.contracts.scores import OutcomeBatch, ScoreboardQuery, ScoreRow, ScoreTable

AGENT, MODEL = ScoreRow(kind="k", name="a", good=1), ScoreRow(kind="k", name="x:y", is_model=True)


class FakeBoard:
    """A client whose scoreboard answers, fails or hangs."""

    def __init__(self, fault: Exception | None = None, *, seconds: float = 0) -> None:
        self.asked: list[str | None] = []
        self._fault = fault
        self._seconds = seconds

    def get_workflow_handle(self, workflow_id: str) -> "FakeBoard":
        return self

    async def query(self, name: str, argument: ScoreboardQuery, **_: Any) -> ScoreTable:
        self.asked.append(argument.of_kind)
        await self._answer()
        return ScoreTable(rows=(AGENT, MODEL))

    async def start_workflow(self, *_: Any, **options: Any) -> None:
        self.asked.append(options["start_signal_args"][0].id)
        await self._answer()

    async def _answer(self) -> None:
        await asyncio.sleep(self._seconds)
        if self._fault is not None:
            raise self._fault


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def rpc(status: RPCStatusCode) -> RPCError:
    return RPCError("as planned", status, b"")


async def rows(reader: ScoreboardReader, board: FakeBoard, kind: str = "k") -> Any:
    return await reader.rows(cast("Client", board), "board", kind)


async def test_many_ask_at_once_and_the_board_is_asked_once() -> None:
    clock, board = Clock(), FakeBoard(seconds=0.01)
    reader = ScoreboardReader(clock=clock)
    found = await asyncio.gather(*(rows(reader, board) for _ in range(50)))
    assert found == [{"a": AGENT}] * 50
    assert board.asked == ["k"]
    clock.now = 2.9
    await rows(reader, board)
    await rows(reader, board, "other")
    assert board.asked == ["k", "other"]
    clock.now = 3.1
    await rows(reader, board)
    assert board.asked == ["k", "other", "k"]


async def test_no_board_yet_is_no_fault() -> None:
    assert await rows(ScoreboardReader(), FakeBoard(rpc(RPCStatusCode.NOT_FOUND))) == {}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (rpc(RPCStatusCode.UNAVAILABLE), "the scoreboard can't be reached (as planned)"),
        (rpc(RPCStatusCode.DEADLINE_EXCEEDED), "the scoreboard did not answer within 1 s"),
        (WorkflowQueryFailedError("its code fails"), "the scoreboard can't be reached (its code fails)"),
    ],
)
async def test_a_fault_is_told_and_remembered(fault: Exception, told: str) -> None:
    clock, board = Clock(), FakeBoard(fault)
    reader = ScoreboardReader(clock=clock)
    for _ in range(3):
        with pytest.raises(ScoreboardUnavailable) as raised:
            await rows(reader, board)
        assert str(raised.value) == told
    assert board.asked == ["k"]
    clock.now = 4
    with pytest.raises(ScoreboardUnavailable):
        await rows(reader, board)
    assert board.asked == ["k", "k"]


async def test_it_is_not_waited_for() -> None:
    board, batch = FakeBoard(seconds=30), OutcomeBatch(id="1")
    began = time.monotonic()
    with pytest.raises(ScoreboardUnavailable, match=r"did not answer within 0.1 s"):
        await rows(ScoreboardReader(patience=timedelta(seconds=0.1)), board)
    with pytest.raises(ScoreboardUnavailable, match=r"did not answer within 0.1 s"):
        await send_outcomes(cast("Client", board), "board", "q", batch, patience=timedelta(seconds=0.1))
    assert board.asked == ["k", "1"]
    assert time.monotonic() - began < 10


async def test_who_is_cancelled_takes_the_answer_from_nobody() -> None:
    reader, board = ScoreboardReader(), FakeBoard(seconds=0.05)
    first, second = asyncio.ensure_future(rows(reader, board)), asyncio.ensure_future(rows(reader, board))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == {"a": AGENT}
    assert board.asked == ["k"]
