"""The gate before a provider: who waits in place, who is sent away, and the circuit."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import ModelCallError
from perdure.providers._circuit import Circuit
from perdure.providers._gate import Gate, is_outage

DOWN = ModelCallError("down", status_code=500)
LIMITED = ModelCallError("slow down", kind="rate_limited", status_code=429, retry_after_seconds=30)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def call(gate: Gate, error: Exception | None = None, *headers: tuple[str, str]) -> None:
    async with gate.admit(400) as admission:
        admission.see([(name.encode(), value.encode()) for name, value in headers])
        if error is not None:
            raise error


async def fail(gate: Gate, error: ModelCallError) -> ModelCallError:
    with pytest.raises(ModelCallError) as caught:
        await call(gate, error)
    return caught.value


async def test_one_retry_after_sends_all_away_spread_in_time() -> None:
    gate = Gate("x", Clock())
    tokens = (("x-ratelimit-limit-requests", "60"), ("x-ratelimit-remaining-requests", "0"))
    await call(gate, None, *tokens)
    assert await fail(gate, LIMITED) is not LIMITED  # the bucket is empty already
    gate = Gate("x", Clock())
    with pytest.raises(ModelCallError):
        await call(gate, LIMITED, *tokens, ("x-ratelimit-reset-requests", "60s"))
    held = [await fail(gate, DOWN) for _ in range(5)]
    assert {(each.held_by, each.kind, each.status_code) for each in held} == {("rate", "rate_limited", None)}
    delays = [each.retry_after or timedelta() for each in held]
    assert delays == sorted(delays)
    assert delays[0] >= timedelta(seconds=30)
    assert delays[-1] - delays[0] > timedelta(seconds=3)


async def test_a_retry_after_of_an_outage_holds_all_back_too() -> None:
    clock = Clock()
    gate = Gate("x", clock)
    await fail(gate, ModelCallError("busy", status_code=503, retry_after_seconds=30))
    held = await fail(gate, DOWN)
    assert (held.held_by, held.kind) == ("circuit", "transient")
    assert timedelta(seconds=30) <= (held.retry_after or timedelta()) < timedelta(seconds=31)
    assert (gate.state().held_seconds, gate.state().circuit) == (30, "closed")
    clock.now += 30.1
    await call(gate)


async def test_a_short_wait_is_spent_in_place_and_in_order() -> None:
    gate = Gate("x")
    limit = (("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "1"))
    await call(gate, None, *limit, ("x-ratelimit-reset-requests", "450ms"))
    order: list[int] = []

    async def one(number: int) -> None:
        async with gate.admit(1):
            order.append(number)

    await asyncio.gather(*(one(number) for number in range(6)))
    assert order == list(range(6))


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    gate = Gate("x")
    limit = (("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "0"))
    await call(gate, None, *limit, ("x-ratelimit-reset-requests", "5s"))
    waiting = asyncio.create_task(call(gate))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gate.state().waiting == 0
    await call(gate)


async def test_the_circuit_opens_probes_and_closes() -> None:
    clock = Clock()
    gate = Gate("x", clock)
    for _ in range(5):
        assert await fail(gate, DOWN) is DOWN
    held = await fail(gate, DOWN)
    assert (held.held_by, held.kind, gate.state().circuit) == ("circuit", "transient", "open")
    clock.now += 2.1
    assert await fail(gate, DOWN) is DOWN  # the probe
    clock.now += 2.1
    assert (await fail(gate, DOWN)).held_by == "circuit"  # for twice as long
    clock.now += 2.1
    await call(gate)
    assert gate.state().circuit == "closed"


async def test_a_probe_that_is_cancelled_leaves_the_next_to_another() -> None:
    clock = Clock()
    gate = Gate("x", clock)
    for _ in range(5):
        await fail(gate, DOWN)
    clock.now += 2.1
    with pytest.raises(asyncio.CancelledError):
        async with gate.admit(1):
            raise asyncio.CancelledError
    await call(gate)
    assert gate.state().circuit == "closed"


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (DOWN, True),
        (ModelCallError("refused"), True),
        (ModelCallError("broke off", may_be_billed=True), False),
        (ModelCallError("conflict", status_code=409), False),
        (ModelCallError("bad key", kind="fatal", status_code=401), False),
        (LIMITED, False),
    ],
)
def test_what_an_outage_is(error: ModelCallError, is_one: bool) -> None:
    assert is_outage(error) is is_one


@given(st.lists(st.sampled_from(["ask", "fail", "late failure", "succeed", "abandon", "sleep"]), max_size=60))
def test_a_circuit_never_stays_open(script: list[str]) -> None:
    clock = Clock()
    circuit = Circuit(clock)
    for step in script:
        if step == "sleep":
            clock.now += 1
        elif step == "ask":
            circuit.wait()
        elif step == "succeed":
            circuit.succeeded()
            assert circuit.wait() == 0
        elif step == "abandon":
            circuit.abandoned()
        else:
            circuit.failed(clock.now - (50 if step == "late failure" else 0))
        assert circuit.state in ("closed", "open", "probing")
    circuit.abandoned()
    clock.now += 61
    assert circuit.wait() == 0
