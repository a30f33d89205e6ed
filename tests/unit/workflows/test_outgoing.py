"""What is held back while other commands are on their way: on a loop that stands for a workflow's."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest

from perdure.workflows import _outgoing
from perdure.workflows._outgoing import Outgoing

KB = 1000


class Task:
    """The workflow's side of Temporal: tasks end when the test says so.

    Attributes:
        timers: Open ones.
        patches: Patches that were asked for.
        is_over: The test is.
    """

    def __init__(self, *, is_new: bool = True) -> None:
        self.timers: list[asyncio.Future[None]] = []
        self.patches: set[str] = set()
        self.is_over = False
        self._is_new = is_new

    def patched(self, id: str) -> bool:
        self.patches.add(id)
        return self._is_new

    async def sleep(self, duration: timedelta, *, summary: str = "") -> None:
        self.timers.append(asyncio.get_running_loop().create_future())
        await self.timers[-1]

    async def wait_condition(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            if self.is_over:  # the loop is shared with other tests: what still waits doesn't go on there
                raise asyncio.CancelledError
            await asyncio.sleep(0)

    def end(self) -> None:
        """Begin the next: the timers fire."""
        for timer in self.timers:
            timer.set_result(None)
        self.timers.clear()


class Work:
    """Commands by name: those that were given, and how each of them ends."""

    def __init__(self) -> None:
        self.outgoing = Outgoing()
        self.given: list[str] = []
        self._ends: dict[str, asyncio.Future[int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def child(self, name: str, size: int, *, held: int | None = None) -> None:
        self._begin(self._child(name, size, held))

    def call(self, name: str, size: int) -> None:
        self._begin(self._call(name, size))

    def local(self, name: str, most: int) -> None:
        self._begin(self._local(name, most))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _child(self, name: str, size: int, held: int | None) -> None:
        await self.outgoing.reserve(name, size, held=held)
        await self._until_end(name)
        self.outgoing.ended(name)

    async def _call(self, name: str, size: int) -> None:
        async with self.outgoing.sending(size):
            await self._until_end(name)

    async def _local(self, name: str, most: int) -> None:
        async with self.outgoing.recording(most) as took:
            took(await self._until_end(name))

    async def _until_end(self, name: str) -> int:
        self.given.append(name)
        self._ends[name] = asyncio.get_running_loop().create_future()
        return await self._ends[name]

    async def ends(self, name: str, size: int = 0) -> None:
        self._ends[name].set_result(size)
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    yield from _as_workflow(monkeypatch, Task())


@pytest.fixture
def old_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """Replay of a run that began before there was the patch."""
    yield from _as_workflow(monkeypatch, Task(is_new=False))


def _as_workflow(monkeypatch: pytest.MonkeyPatch, task: Task) -> Iterator[Task]:
    monkeypatch.setattr(_outgoing, "workflow", task)
    yield task
    task.is_over = True


async def test_children_wait_until_others_have_started(task: Task) -> None:
    work = Work()
    for name in "abcd":
        work.child(name, 900 * KB)
    await settled()
    assert work.given == ["a", "b"]
    work.outgoing.arrived("b")
    await settled()
    assert work.given == ["a", "b", "c"], "that b has started doesn't say that a has: children tell by themselves"
    work.outgoing.arrived("a")
    await settled()
    assert work.given == ["a", "b", "c", "d"]
    assert task.timers == []


async def test_calls_wait_for_the_next_task(task: Task) -> None:
    work = Work()
    for name in "abcde":
        work.call(name, 900 * KB)
    await settled()
    assert (work.given, len(task.timers)) == (["a", "b"], 1)
    task.end()
    await settled()
    assert (work.given, len(task.timers)) == (["a", "b", "c", "d"], 1)
    await work.ends("d")
    assert work.given == ["a", "b", "c", "d", "e"], "what has ended had left, and so had what was given before"


async def test_a_local_result_leaves_with_the_task_in_which_it_comes(task: Task) -> None:
    work = Work()
    for name in "abc":
        work.local(name, 900 * KB)
    await settled()
    assert (work.given, task.timers) == (["a", "b"], []), "they are not over: no task would end"
    await work.ends("a", 10 * KB)
    assert work.given == ["a", "b", "c"]
    await work.ends("b", 900 * KB)
    await work.ends("c", 950 * KB)
    work.child("child", 500 * KB)
    await settled()
    assert (work.given[3:], len(task.timers)) == ([], 1)
    task.end()
    await settled()
    assert work.given[3:] == ["child"]


async def test_what_ends_later_doesnt_leave_with_a_task_that_began_before(task: Task) -> None:
    work = Work()
    work.local("slow", 900 * KB)
    work.call("a", 600 * KB)
    work.call("b", 600 * KB)
    await settled()
    assert (work.given, len(task.timers)) == (["slow", "a"], 1)
    await work.ends("slow", 1900 * KB)
    task.end()
    await settled()
    assert (work.given, len(task.timers)) == (["slow", "a"], 1), "its result needs another"
    task.end()
    await settled()
    assert work.given == ["slow", "a", "b"]


async def test_something_large_goes_alone(task: Task) -> None:
    work = Work()
    work.child("large", 5_000 * KB)
    work.child("small", 1)
    await settled()
    assert work.given == ["large"]
    await work.ends("large")
    assert work.given == ["large", "small"]


async def test_many_small_ones_count_too(task: Task) -> None:
    work = Work()
    for number in range(3_000):
        work.local(str(number), 0)
    await settled()
    assert 1_500 < len(work.given) < 2_100


@pytest.mark.parametrize("kind", ["child", "call"])
async def test_no_more_are_open_than_a_run_may_have(task: Task, kind: str) -> None:
    work = Work()
    for number in range(2_100):
        getattr(work, kind)(str(number), 1)
        if number % 500 == 0:
            await settled()
            work.outgoing.arrived(str(number))
            task.end()
    for _ in range(5):
        await settled()
        for name in work.given:
            work.outgoing.arrived(name)
        task.end()
    assert len(work.given) == 1_900
    await work.ends("7")
    await work.ends("8")
    assert len(work.given) == 1_902
    assert task.timers == [], "a new task would make no room"


async def test_what_fits_needs_no_patch(task: Task) -> None:
    work = Work()
    work.child("a", 900 * KB)
    work.call("b", 900 * KB)
    work.local("c", 100 * KB)
    await settled()
    assert (len(work.given), task.patches) == (3, set())


async def test_a_run_of_before_holds_back_what_it_held_back(old_task: Task) -> None:
    work = Work()
    for name in "ab":
        work.call(name, 1_500 * KB)
    for name in "cde":
        work.child(name, 900 * KB, held=900 * KB)
    work.child("f", 900 * KB)
    await settled()
    assert work.given == ["a", "b", "c", "d", "f"]
    work.outgoing.arrived("c")
    await settled()
    assert work.given[-1] == "e"
    assert old_task.timers == []
