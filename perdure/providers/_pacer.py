"""Activity side; owns when the next call of a provider and key may leave this worker. Pure: its clock is given.

Each limit that the vendor tells is a bucket that fills again steadily. An answer says what was in it when the
call came there; what this worker has sent since is taken off, and of the rest it takes its share: one over the
number of workers. A refusal (429) multiplies the pace by 0.7; each second without one adds 2 % of the full one.
A vendor that tells nothing but refusals is paced in the same way, from what it last let through.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from perdure.contracts.workers import ProviderLimit
from perdure.providers._quota import Dimension, Quota

Cost = Mapping[Dimension, float]

_DECREASE: Final = 0.7
_INCREASE_PER_SECOND: Final = 0.02
_SLOWEST: Final = 0.05
_HEADROOM: Final = 0.97
"""Of what the vendor's bucket gains: the rest is for calls that were late."""
_RESERVE: Final = 0.05
"""Of a limit, left to calls that are larger than they seemed and to answers that are old."""
_MINUTE: Final = 60.0
_FIRST_CALLS: Final = 8
"""Calls at once before the vendor has answered any; four times as many after a second, then all."""
_FIRST_SECONDS: Final = 2.0
_FIRST_LOOK_SECONDS: Final = 0.1
_GUESS_GROWTH_PER_SECOND: Final = 0.05
_FIRST_GUESS: Final = 2.0
_GUESS_SEARCH: Final = 1.5
"""By how much a first guess grows a second, until it is refused."""
_FORGET_SECONDS: Final = 60.0
_NO_ADVICE_SECONDS: Final = 1.0


@dataclass(slots=True)
class Bucket:
    """A limit, as far as it is this worker's."""

    limit: float
    """The whole: over all workers."""
    rate: float
    """What the vendor adds a second, for all workers."""
    credit: float
    """What this worker may spend at `at`; less than nothing after an answer that told of less than was sent."""
    at: float
    full_at: float
    """When all of it is there again."""


@dataclass(slots=True)
class Ticket:
    """A call that was let through."""

    sent_at: float
    cost: Cost
    totals: dict[Dimension, float]
    """What this worker had sent of each dimension, this call included."""


@dataclass(slots=True)
class Pacer:
    """Says when a call may go.

    Attributes:
        workers: Among how many workers the vendor's limits are shared.
        refusals: How many calls the vendor refused for their rate.
    """

    clock: Callable[[], float]
    workers: int = 1
    refusals: int = 0
    _buckets: dict[Dimension, Bucket] = field(default_factory=dict[Dimension, Bucket])
    _totals: dict[Dimension, float] = field(default_factory=dict[Dimension, float])
    _hold_until: float = float("-inf")
    _factor: float = 1.0
    _factor_at: float = float("-inf")
    _seen_sent_at: float = float("-inf")
    _is_answered: bool = False
    _first_at: float | None = None
    _open: int = 0
    _guess: float | None = None
    """Calls a second of this worker, where the vendor tells no limit but refused one."""
    _is_guess_tested: bool = False
    _window_at: float = float("-inf")
    _window: int = 0
    _passed: float = 0.0
    """Calls a second that the vendor let through lately."""

    @property
    def is_limited(self) -> bool:
        """Say whether anything could hold a call back: until then nothing needs to be computed."""
        return bool(self._buckets) or not self._is_answered or self._hold_until > float("-inf")

    @property
    def is_shared(self) -> bool:
        """Say whether it matters how many workers there are."""
        return bool(self._buckets) or not self._is_answered

    def wait(self, cost: Cost, behind: Cost | None = None) -> float:
        """Return the seconds until a call may go that stands behind others of the cost `behind`.

        It may go earlier, when an answer tells of more: ask again after each.
        """
        now = self.clock()
        wait = max(0.0, self._hold_until - now)
        if not self._is_answered and self._open >= self._first_calls(now):
            return _FIRST_LOOK_SECONDS
        if self._guess is not None:
            self._grow_guess(now)
        for dimension, bucket in self._buckets.items():
            full = self._full(bucket)
            need = min(cost.get(dimension, 0.0), full) + (behind or {}).get(dimension, 0.0)
            lacks = need - self._credit(bucket, now)
            if lacks > 0:
                soonest = lacks / self._pace(bucket, now)
                wait = max(wait, min(soonest, max(bucket.full_at - now, 0.0) if lacks <= full else soonest))
        return wait

    def interval(self, cost: Cost) -> float:
        """Return the seconds between two calls of this cost, at the present pace."""
        now = self.clock()
        return max(
            (cost.get(name, 0.0) / self._pace(bucket, now) for name, bucket in self._buckets.items()), default=0.0
        )

    def take(self, cost: Cost) -> Ticket:
        """Let a call through."""
        now = self.clock()
        if self._first_at is None:
            self._first_at = now
        self._open += 1
        for dimension, amount in cost.items():
            self._totals[dimension] = self._totals.get(dimension, 0.0) + amount
            bucket = self._buckets.get(dimension)
            if bucket is not None:
                bucket.credit = self._credit(bucket, now) - amount
                bucket.at = now
                bucket.full_at = max(bucket.full_at, now) + amount * self._sharers / bucket.rate
        return Ticket(now, cost, dict(self._totals))

    def done(self) -> None:
        """A call that was let through is over, however it ended."""
        self._open -= 1

    def answered(self, ticket: Ticket, quotas: Mapping[Dimension, Quota]) -> None:
        """Note what an answer told, whatever its status."""
        self._is_answered = True
        if quotas and self._guess is not None:
            self._forget_guess()
        if ticket.sent_at < self._seen_sent_at:
            return
        for dimension, quota in quotas.items():
            self._note(dimension, quota, ticket)
        if quotas:
            self._seen_sent_at = ticket.sent_at

    def passed(self) -> None:
        """Note that the vendor let a call through."""
        now = self.clock()
        elapsed = now - self._window_at
        if elapsed >= 1.0:
            self._passed = self._window / elapsed
            self._window_at, self._window = now, 0
            if self._guess is not None and now > self._factor_at + _FORGET_SECONDS:
                self._forget_guess()
        self._window += 1

    def refused(self, ticket: Ticket, retry_after: float | None, *, is_told: bool) -> None:
        """Note that the vendor refused a call for its rate: every call waits as long as it asks.

        Args:
            ticket: The call.
            retry_after: Seconds, if the vendor asked for any.
            is_told: Whether the refusal told the limits, so that it is known which one it was.
        """
        now = self.clock()
        self.refusals += 1
        self._is_answered = True
        wait = _NO_ADVICE_SECONDS if retry_after is None else retry_after
        if retry_after is None and self._buckets:
            wait = min(_NO_ADVICE_SECONDS, max(self.interval(ticket.cost), 0.05))
        self.hold(wait)
        for bucket in () if is_told else self._buckets.values():
            bucket.credit, bucket.at = min(0.0, self._credit(bucket, now)), now
            bucket.full_at = max(bucket.full_at, now + bucket.limit / bucket.rate)
        if ticket.sent_at <= self._factor_at:
            return  # sent before the last decrease: it tells nothing about the pace since
        self._factor = max(_SLOWEST, self._current_factor(now) * _DECREASE)
        self._factor_at = now
        if not self._buckets or self._guess is not None:
            self._decrease_guess(now)

    def hold(self, seconds: float) -> None:
        """Let no call go for so long."""
        self._hold_until = max(self._hold_until, self.clock() + seconds)

    @property
    def held_seconds(self) -> float:
        """For how long no call goes."""
        return max(0.0, self._hold_until - self.clock())

    @property
    def pace(self) -> float:
        """What part of the vendor's rate is used; 1 unless it refused calls lately."""
        return self._current_factor(self.clock())

    @property
    def limits(self) -> tuple[ProviderLimit, ...]:
        """The limits known, for people; where the vendor tells none, the pace that it was found to take."""
        found = self._buckets.items()
        return tuple(ProviderLimit(counted=name, per_minute=round(each.rate * _MINUTE, 1)) for name, each in found)

    def _first_calls(self, now: float) -> float:
        seconds = 0.0 if self._first_at is None else now - self._first_at
        return _FIRST_CALLS * 4.0**seconds if seconds < _FIRST_SECONDS else float("inf")

    @property
    def _sharers(self) -> int:
        return 1 if self._guess is not None else self.workers

    def _full(self, bucket: Bucket) -> float:
        return max(1.0, bucket.limit / self._sharers)

    def _current_factor(self, now: float) -> float:
        if self._factor < 1.0:
            return min(1.0, self._factor + _INCREASE_PER_SECOND * (now - self._factor_at))
        return 1.0

    def _pace(self, bucket: Bucket, now: float) -> float:
        """Return what of a dimension this worker may send a second."""
        if self._guess is not None:
            return bucket.rate
        return max(bucket.rate * _HEADROOM * self._current_factor(now) / self.workers, 1e-9)

    def _credit(self, bucket: Bucket, now: float) -> float:
        full = self._full(bucket)
        if now >= bucket.full_at:
            return full
        return min(full, bucket.credit + self._pace(bucket, now) * (now - bucket.at))

    def _note(self, dimension: Dimension, quota: Quota, ticket: Ticket) -> None:
        now = self.clock()
        bucket = self._buckets.get(dimension)
        rate = _rate(quota, None if bucket is None else bucket.rate)
        reset = quota.reset_seconds
        full_at = ticket.sent_at + (reset if reset is not None else (quota.limit - quota.remaining) / rate)
        since = self._totals.get(dimension, 0.0) - ticket.totals.get(dimension, 0.0)
        left = quota.remaining - _RESERVE * quota.limit
        share = self._current_factor(now) / self.workers
        gained = rate * _HEADROOM * share * (now - ticket.sent_at)
        credit = min(quota.limit / self.workers, left * share - since + gained)
        # Full again is only what nothing is sent from: each call puts it off.
        full_at += since * self.workers / rate
        self._buckets[dimension] = Bucket(quota.limit, rate, credit, now, max(full_at, now + 1e-3))

    def _decrease_guess(self, now: float) -> None:
        lately = self._passed
        known = self._buckets.get("requests")
        self._is_guess_tested = known is not None
        rate = max(_FIRST_GUESS, (lately if known is None else known.rate) * _DECREASE)
        self._guess = rate
        self._buckets = {"requests": Bucket(max(1.0, rate / 2), rate, 0.0, now, float("inf"))}

    def _grow_guess(self, now: float) -> None:
        assert self._guess is not None
        seconds = max(0.0, now - max(self._factor_at, self._hold_until))
        if self._is_guess_tested:
            rate = self._guess * (1 + _GUESS_GROWTH_PER_SECOND * seconds)
        else:
            rate = self._guess * _GUESS_SEARCH ** min(seconds, 20.0)
        bucket = self._buckets["requests"]
        bucket.credit, bucket.at = self._credit(bucket, now), now
        bucket.rate, bucket.limit = rate, max(1.0, rate / 2)

    def _forget_guess(self) -> None:
        self._guess = None
        self._buckets = {}


def _rate(quota: Quota, known: float | None) -> float:
    """Return what the vendor adds a second.

    A bucket tells it exactly: what is missing from it, over the time until it is full. A vendor that counts by
    windows would seem slow early in each: there, what is left until its end is a lower bound.
    """
    per_minute = quota.limit / _MINUTE
    used, reset = quota.limit - quota.remaining, quota.reset_seconds
    if reset is None or reset <= 0:
        return known or per_minute
    found = known
    if used > 0:
        sample = used / reset
        weight = 1.0 if known is None else 0.5 * max(0.05, used / quota.limit)
        found = sample if known is None else known + weight * (sample - known)
    return max(found or per_minute, min(quota.remaining / reset, per_minute))
