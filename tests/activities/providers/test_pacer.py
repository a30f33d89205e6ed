"""The pace of calls against simulated vendors, in simulated time."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rate_limits import Vendor, VendorBucket
from perdure.providers._pacer import Pacer
from perdure.providers._quota import Quota, read_quotas

LIMITS = {"requests": 20.0, "tokens": 40_000.0}
SECONDS = 90.0
MOST_OPEN = 150
"""Calls of a worker that are open at once: as many runs it has."""


@dataclass
class Simulation:
    """Workers with more to do than a vendor allows."""

    vendor: Vendor
    workers: int = 2
    latency: float = 0.5
    tokens: float = 50
    has_early_headers: bool = True
    """Whether the headers come when the call is taken, as with a stream, and not with the reply."""
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def run(self, seconds: float) -> None:
        pacers = [Pacer(lambda: self.now, workers=self.workers) for _ in range(self.workers)]
        while self.now < seconds:
            while self.events and self.events[0][0] <= self.now:
                heapq.heappop(self.events)[2]()
            for pacer in pacers:
                self._send(pacer)
            self.now += 0.005

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, self.chance.getrandbits(40), do))

    def _send(self, pacer: Pacer) -> None:
        cost = {"requests": 1.0, "tokens": self.tokens}
        while pacer._open < MOST_OPEN and pacer.wait(cost) == 0:  # pyright: ignore[reportArgumentType]
            ticket = pacer.take(cost)  # pyright: ignore[reportArgumentType]
            self.later(self.chance.uniform(0.002, 0.02), lambda ticket=ticket: self._arrive(pacer, ticket))

    def _arrive(self, pacer: Pacer, ticket: Any) -> None:
        wait = self.vendor.ask(self.now, self.tokens * self.chance.uniform(0.8, 1.2))
        headers = [(name.encode(), value.encode()) for name, value in self.vendor.headers().items()]

        def see() -> None:
            pacer.answered(ticket, read_quotas(headers))

        def end() -> None:
            if not self.has_early_headers and wait is None:
                see()
            if wait is None:
                pacer.passed()
            pacer.done()

        if wait is None:
            if self.has_early_headers:
                self.later(0.01, see)
            self.later(self.latency * self.chance.uniform(0.5, 1.5), end)
            return

        def refuse() -> None:
            see()
            pacer.refused(ticket, wait, is_told=self.vendor.tells_headers)
            pacer.done()

        self.later(0.01, refuse)


CASES = {
    "requests bind": {},
    "tokens bind": {"tokens": 300},
    "whole replies": {"tokens": 300, "has_early_headers": False, "latency": 2.0},
    "one worker": {"workers": 1},
    "many workers": {"workers": 8, "tokens": 20},
    "a limit a minute": {"vendor": lambda: Vendor(requests=VendorBucket(1200, 60))},
}


@pytest.mark.parametrize("case", list(CASES))
def test_most_of_the_limit_is_used_and_few_calls_are_refused(case: str) -> None:
    options: dict[str, Any] = dict(CASES[case])
    made = Simulation(options.pop("vendor", Vendor)(), **options)
    made.run(SECONDS)
    vendor = made.vendor
    allowed = min(
        (vendor.requests.limit + vendor.requests.rate * SECONDS),
        (vendor.tokens.limit + vendor.tokens.rate * SECONDS) / made.tokens,
    )
    assert vendor.accepted >= 0.9 * allowed
    assert vendor.refused <= 0.03 * (vendor.accepted + vendor.refused)


def test_a_vendor_that_only_refuses_is_followed_too() -> None:
    made = Simulation(Vendor(tells_headers=False))
    made.run(SECONDS)
    first = made.workers * MOST_OPEN
    """Sent before it was known that there is a limit."""
    assert made.vendor.accepted >= 0.7 * 20 * SECONDS * 40_000 / 60 / 50 / 20
    assert made.vendor.refused - first <= 0.03 * made.vendor.accepted


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.floats(0, 5000)),
        st.tuples(st.just("sleep"), st.floats(0, 100)),
        st.tuples(st.just("told"), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 100))),
        st.tuples(st.just("refused"), st.one_of(st.none(), st.floats(0, 30))),
        st.tuples(st.just("workers"), st.integers(1, 20)),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_a_vendor_tells_a_call_goes_in_the_end(script: list[Any]) -> None:
    now = 0.0
    pacer = Pacer(lambda: now)
    ticket = None
    for kind, *values in script:
        if kind == "send":
            cost: Any = {"requests": 1.0, "tokens": values[0]}
            if pacer.wait(cost) == 0:
                ticket = pacer.take(cost)
                pacer.done()
        elif kind == "sleep":
            now += values[0]
        elif kind == "workers":
            pacer.workers = values[0]
        elif ticket is not None and kind == "told":
            quotas: Any = {name: Quota(limit, limit * values[0], values[1]) for name, limit in LIMITS.items()}
            pacer.answered(ticket, quotas)
        elif ticket is not None:
            pacer.refused(ticket, values[0], is_told=False)
    cost = {"requests": 1.0, "tokens": 1000.0}
    for _ in range(200):
        wait = pacer.wait(cost)
        assert 0 <= wait < 1e7
        now += wait + 0.001 if wait else 0
    assert pacer.wait(cost) == 0


def test_a_retry_after_holds_all_back() -> None:
    now = 0.0
    pacer = Pacer(lambda: now)
    pacer.refused(pacer.take({}), 7.0, is_told=False)
    assert pacer.wait({}) == 7.0
    now = 7.5
    assert pacer.wait({"requests": 1.0}) < 1


def test_nothing_is_limited_where_a_vendor_tells_nothing() -> None:
    pacer = Pacer(lambda: 0.0)
    pacer.answered(pacer.take({}), {})
    assert not pacer.is_limited
