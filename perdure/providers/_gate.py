"""Activity side; owns the gate before a provider: who may call now, who waits here, who gives the slot back.

One for each provider and key in a process. A wait of a few seconds is spent here, in order; for a longer one the
call fails at once, with the time to come back, so that nothing waits in a process. Those times are spread at the
present pace: whoever was held back together doesn't come back together.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from perdure.contracts.usage import Usage
from perdure.contracts.workers import ProviderState
from perdure.errors import ModelCallError
from perdure.providers._circuit import Circuit
from perdure.providers._pacer import Cost, Pacer, Ticket
from perdure.providers._quota import read_quotas

_log = logging.getLogger(__name__)

_IN_PLACE_SECONDS: Final = 3.0
_LONGEST_DELAY_SECONDS: Final = 60.0
_OVERBOOKING: Final = 0.6
"""Who was sent away comes back faster than calls go, so that no place stays empty when there are fewer of them."""
_CHARS_PER_TOKEN: Final = 4
_FIRST_OUTPUT_TOKENS: Final = 200.0
_LEARNING: Final = 0.1
_LOG_EVERY: Final = 100
_NOT_OUTAGES: Final = frozenset({408, 409, 425})


@dataclass(slots=True)
class Admission:
    """A call that may go; tell it what becomes of it."""

    gate: "Gate"
    ticket: Ticket
    size: int
    is_told: bool = False
    """Whether its answer told the limits."""

    def see(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Learn from the headers of its answer."""
        quotas = read_quotas(headers)
        self.is_told = bool(quotas)
        self.gate.pacer.answered(self.ticket, quotas)
        self.gate.pump()

    def settle(self, usage: Usage) -> None:
        """Learn what such calls use."""
        self.gate.learn(self.size, usage)


@dataclass(slots=True, eq=False)
class _Waiter:
    cost: Cost
    deadline: float
    admitted: "asyncio.Future[Ticket]"


@dataclass(eq=False)
class Gate:
    """Lets calls of one provider and key through."""

    provider: str
    clock: Callable[[], float] = time.monotonic
    pacer: Pacer = field(init=False)
    circuit: Circuit = field(init=False)

    def __post_init__(self) -> None:
        """Hold nothing back yet."""
        self.pacer, self.circuit = Pacer(self.clock), Circuit(self.clock)
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._booked_until = self._away_until = float("-inf")
        self._input_ratio = 1.0
        self._output_tokens = _FIRST_OUTPUT_TOKENS

    @asynccontextmanager
    async def admit(self, size: int) -> AsyncGenerator[Admission]:
        """Wait for a short while at most, and give way to a call whose body has `size` bytes.

        Raises:
            ModelCallError: `is_held`: the call was not made, and should be after `retry_after`.
        """
        wait = self._away_until - self.clock()
        if wait > 0:
            raise self._asked_away(wait)
        wait = self.circuit.wait()
        if wait > 0:
            raise self._broken(wait)
        try:
            ticket = await self._enter(size)
        except BaseException:
            self.circuit.abandoned()
            raise
        admission = Admission(self, ticket, size)
        try:
            yield admission
        except ModelCallError as error:
            self._note_failure(error, admission)
            raise
        except BaseException:
            self.circuit.abandoned()
            raise
        else:
            self._change(self.circuit.succeeded)
            self.pacer.passed()
        finally:
            self.pacer.done()
            self.pump()

    def pump(self) -> None:
        """Let those go that may, and send those away that would wait too long."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            head = self._waiters[0]
            wait = self.pacer.wait(head.cost)
            left = head.deadline - self.clock()
            if left > 0 and 0 < wait <= left:
                self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self.pump)
                return
            self._waiters.popleft()
            if head.admitted.done():
                continue
            if wait > 0:
                head.admitted.set_exception(self._held(head.cost, wait))
            else:
                head.admitted.set_result(self.pacer.take(head.cost))

    def learn(self, size: int, usage: Usage) -> None:
        """Note what a call of so many bytes used."""
        if not usage.total_tokens:
            return
        sample = (usage.input_tokens - usage.cached_tokens) * _CHARS_PER_TOKEN / max(size, 1)
        self._input_ratio += _LEARNING * (sample - self._input_ratio)
        self._output_tokens += _LEARNING * (usage.output_tokens - self._output_tokens)

    def state(self) -> ProviderState:
        """Return what is known of the provider."""
        circuit, pacer = self.circuit, self.pacer
        return ProviderState(
            provider=self.provider,
            circuit=circuit.state,
            failures=circuit.failures,
            probe_in_seconds=round(circuit.left, 1),
            held_seconds=round(max(pacer.held_seconds, self._away_until - self.clock()), 1),
            pace=round(pacer.pace, 2),
            waiting=sum(not waiter.admitted.done() for waiter in self._waiters),
            refusals=pacer.refusals,
            sharers=pacer.workers,
            limits=pacer.limits,
        )

    async def _enter(self, size: int) -> Ticket:
        if not self.pacer.is_limited:
            return self.pacer.take({})
        cost = self._cost(size)
        if not self._waiters and self.pacer.wait(cost) == 0:
            return self.pacer.take(cost)
        expected = self.pacer.wait(cost, self._queued())
        if expected > _IN_PLACE_SECONDS:
            raise self._held(cost, expected)
        deadline = self.clock() + _IN_PLACE_SECONDS
        waiter = _Waiter(cost, deadline, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        if self._timer is None:
            self.pump()
        try:
            return await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled() and not waiter.admitted.exception():
                self.pacer.done()
            raise

    def _change(self, note: Callable[[], None]) -> None:
        """Note what became of a call, and log when the circuit opens or closes."""
        before = self.circuit.state
        note()
        after = self.circuit.state
        if after == before:
            return
        if after == "open":
            wait = self.circuit.wait()
            _log.warning(
                "%s is down (%d calls in a row): stays away for %.0f s", self.provider, self.circuit.failures, wait
            )
        elif after == "closed":
            _log.warning("%s is up again", self.provider)

    def _queued(self) -> Cost:
        """Return what all who wait here cost together."""
        if not self._waiters:
            return {}
        # Calls of one worker are much alike, and this is asked for each of them.
        count, last = len(self._waiters), self._waiters[-1].cost
        return {dimension: amount * count for dimension, amount in last.items()}

    def _cost(self, size: int) -> Cost:
        read = size / _CHARS_PER_TOKEN * self._input_ratio
        written = self._output_tokens
        return {"requests": 1.0, "tokens": read + written, "input-tokens": read, "output-tokens": written}

    def _held(self, cost: Cost, wait: float) -> ModelCallError:
        """Book the next place after all who were sent away before."""
        now = self.clock()
        after = max(self._booked_until, now + wait)
        if after < now + _LONGEST_DELAY_SECONDS:
            self._booked_until = after + self.pacer.interval(cost) * _OVERBOOKING
        delay = min(after - now, _LONGEST_DELAY_SECONDS) + random.uniform(0, 0.1)
        text = f"{self.provider}: this worker is at the vendor's rate limit, and comes back in {delay:.1f} s."
        return ModelCallError(text, kind="rate_limited", retry_after_seconds=delay, held_by="rate")

    def _broken(self, wait: float) -> ModelCallError:
        delay = wait + random.uniform(0, 0.5)
        text = (
            f"{self.provider}: its last {self.circuit.failures} calls found it down; "
            f"it is tried again in {delay:.1f} s."
        )
        return ModelCallError(text, retry_after_seconds=delay, held_by="circuit")

    def _asked_away(self, wait: float) -> ModelCallError:
        delay = min(wait, _LONGEST_DELAY_SECONDS) + random.uniform(0, 0.5)
        text = f"{self.provider} is down, and asked to be left alone; it is tried again in {delay:.1f} s."
        return ModelCallError(text, retry_after_seconds=delay, held_by="circuit")

    def _note_failure(self, error: ModelCallError, admission: Admission) -> None:
        ticket = admission.ticket
        if error.kind == "rate_limited":
            wait = error.retry_after
            if self.pacer.refusals % _LOG_EVERY == 0:
                _log.warning("%s refused a call for its rate, number %d", self.provider, self.pacer.refusals + 1)
            self.pacer.refused(ticket, None if wait is None else wait.total_seconds(), is_told=admission.is_told)
        if is_outage(error):
            if error.retry_after is not None:
                self._leave_alone(error.retry_after.total_seconds())
            self._change(lambda: self.circuit.failed(ticket.sent_at))
        else:
            self._change(self.circuit.succeeded)

    def _leave_alone(self, seconds: float) -> None:
        """Hold back all calls, as the vendor asked of one: in place for a few seconds, else as an outage does."""
        if seconds <= _IN_PLACE_SECONDS:
            self.pacer.hold(seconds)
        else:
            self._away_until = max(self._away_until, self.clock() + seconds)


def is_outage(error: ModelCallError) -> bool:
    """Tell a provider that is down from one that answers, and from a connection that broke midway."""
    if error.kind != "transient" or error.status_code in _NOT_OUTAGES:
        return False
    return error.status_code is not None or not error.may_be_billed


class Gates:
    """The gates of a worker, by provider and key. Keys stay in memory, as they do in the environment."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Have none yet."""
        self._clock = clock
        self._gates: dict[tuple[str, str | None], Gate] = {}

    def gate(self, provider: str, key: str | None) -> Gate:
        """Return the gate of a provider's key."""
        gate = self._gates.get((provider, key))
        if gate is None:
            gate = self._gates[provider, key] = Gate(provider, self._clock)
        return gate

    def share(self, provider: str, workers: int) -> None:
        """Note among how many workers the limits of a provider are shared."""
        for gate in self._of(provider):
            gate.pacer.workers = max(1, workers)

    def needs_share(self, provider: str) -> bool:
        """Say whether it matters how many workers there are."""
        return any(gate.pacer.is_shared for gate in self._of(provider))

    def states(self) -> list[ProviderState]:
        """Return what is known of each, without the keys."""
        return [gate.state() for gate in self._gates.values()]

    def _of(self, provider: str) -> list[Gate]:
        return [gate for (name, _), gate in self._gates.items() if name == provider]
