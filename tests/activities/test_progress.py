"""Heartbeats: what they show, when they come, and how long a failed attempt waits."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from perdure.activities._progress import Heart, backoff
from perdure.contracts.calls import Progress


def environment(beats: list[Progress], *, seconds: float | None, tries: int = 0) -> ActivityEnvironment:
    made = ActivityEnvironment()
    details = [Progress(tries=tries, text="of the last attempt").model_dump(mode="json")] if tries else []
    timeout = None if seconds is None else timedelta(seconds=seconds)
    made.info = replace(made.info, heartbeat_timeout=timeout, heartbeat_details=details)
    made.on_heartbeat = beats.append
    return made


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.002)


async def test_it_beats_with_the_end_of_the_text() -> None:
    beats: list[Progress] = []

    async def work() -> None:
        pieces = ["a" * 1500, "b" * 1000]
        with Heart() as heart:
            heart.follow(pieces)
            assert heart.text == "a" * 1500 + "b" * 1000
            await until(lambda: len(beats) >= 2)
            pieces.append("c")
            await until(lambda: beats[-1].text.endswith("c"))

    await environment(beats, seconds=0.03, tries=4).run(work)
    assert beats[0] == Progress(tries=4, offset=500, text="a" * 1000 + "b" * 1000)
    assert beats[-1] == Progress(tries=4, offset=501, text="a" * 999 + "b" * 1000 + "c")


async def test_a_beat_is_small_in_any_script() -> None:
    beats: list[Progress] = []

    async def work() -> None:
        with Heart() as heart:
            heart.follow(["🙂" * 10_000])
            await until(lambda: beats)

    await environment(beats, seconds=0.01).run(work)
    assert len(beats[0].text.encode()) <= 8000


async def test_it_stops_when_the_call_is_over() -> None:
    beats: list[Progress] = []

    async def work() -> None:
        with Heart():
            await until(lambda: beats)
        seen = len(beats)
        await asyncio.sleep(0.03)
        assert len(beats) == seen

    await environment(beats, seconds=0.01).run(work)


async def test_a_failed_try_is_noted_at_once() -> None:
    beats: list[Progress] = []

    async def work() -> int:
        with Heart() as heart:
            return heart.count_try()

    assert await environment(beats, seconds=60, tries=2).run(work) == 3
    assert beats == [Progress(tries=3)]


async def test_without_a_heartbeat_timeout_there_are_no_beats() -> None:
    beats: list[Progress] = []

    async def work() -> tuple[int, str]:
        with Heart() as heart:
            await asyncio.sleep(0.01)
            return heart.count_try(), heart.text

    assert await environment(beats, seconds=None).run(work) == (1, "")
    assert beats == []


@given(st.integers(0, 10_000))
def test_waits_double_up_to_half_a_minute(tries: int) -> None:
    full = min(30.0, 0.5 * 2 ** min(tries, 20))
    assert full / 2 <= backoff(tries).total_seconds() <= full


def test_runs_that_failed_together_come_back_apart() -> None:
    assert len({backoff(3) for _ in range(20)}) > 10
