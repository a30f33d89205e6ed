"""Beats a second are bounded, however many calls a worker has."""

from datetime import timedelta

import pytest

from perdure.activities._pulse import Pulse

BASE = timedelta(seconds=3)


def _pulse(open_calls: int, *, step: float = 100.0) -> Pulse:
    now = iter(range(1_000_000))
    return Pulse(BASE, open_calls=lambda: open_calls, clock=lambda: next(now) * step)


@pytest.mark.parametrize(
    ("open_calls", "factor"), [(0, 1), (100, 1), (101, 2), (200, 2), (201, 4), (1000, 16), (100_000, 16)]
)
def test_the_timeout_grows_with_the_open_calls(open_calls: int, factor: int) -> None:
    assert _pulse(open_calls).next_timeout() == BASE * factor


def test_a_burst_of_starts_counts_before_its_calls_are_open() -> None:
    burst = _pulse(0, step=0.001)
    timeouts = [burst.next_timeout() for _ in range(1000)]
    assert timeouts[99] == BASE
    assert timeouts[100] == 2 * BASE
    assert timeouts[-1] == 16 * BASE


def test_starts_are_forgotten() -> None:
    slow = _pulse(0, step=1.0)
    assert {slow.next_timeout() for _ in range(1000)} == {BASE}
