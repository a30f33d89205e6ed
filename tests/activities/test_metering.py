"""A metered call: one reservation pays for one attempt that may be billed."""

import asyncio
from typing import Any

import pytest

from perdure import ModelSettings
from perdure.contracts.calls import CallModelRequest
from perdure.errors import ConversationUnavailableError, ModelCallError, UnsettledCallError, UserError
from perdure.testing import ScriptedModel
from tests.activities.conftest import MakeRig
from tests.activities.rig import HI, FakeTemporal, Rig

BILLED = ModelCallError("cut", kind="transient", may_be_billed=True)
BUSY = ModelCallError("busy", kind="transient", status_code=503)
LIMITED = ModelCallError("slow down", kind="rate_limited")


async def failure_of(rig: Rig, **options: Any) -> Any:
    with pytest.raises((ModelCallError, UnsettledCallError)) as caught:
        await rig.ask(await rig.pin(), is_metered=True, **options)
    return caught.value


async def test_an_attempt_after_one_that_may_be_billed_sends_nothing(make_rig: MakeRig) -> None:
    model = ScriptedModel(["hi"])
    error = await failure_of(make_rig(model), attempt=2, tries=3)
    assert isinstance(error, UnsettledCallError)
    assert (error.non_retryable, error.tries, model.requests) == (True, 3, [])


@pytest.mark.parametrize("failure", [BUSY, LIMITED])
async def test_an_attempt_that_cost_nothing_leaves_the_reservation(make_rig: MakeRig, failure: Any) -> None:
    model = ScriptedModel([failure])
    rig = make_rig(model)
    error = await failure_of(rig)
    assert isinstance(error, ModelCallError)
    assert not error.non_retryable
    assert rig.beats[-1].unbilled == 1
    await failure_of(rig, attempt=2, unbilled=rig.beats[-1].unbilled)
    assert len(model.requests) == 2
    assert rig.beats[-1].unbilled == 2


async def test_what_an_earlier_attempt_showed_says_nothing_of_the_last(make_rig: MakeRig) -> None:
    model = ScriptedModel(["hi"])
    assert isinstance(await failure_of(make_rig(model), attempt=3, unbilled=1), UnsettledCallError)
    assert model.requests == []


async def test_a_failure_that_may_be_billed_is_settled_by_the_run(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel([BILLED]))
    error = await failure_of(rig)
    assert isinstance(error, UnsettledCallError)
    assert (error.non_retryable, error.tries) == (True, 1)
    assert 0 < error.delay_seconds <= 30
    assert rig.beats[-1].unbilled == 0


async def test_attempts_are_counted_over_reservations(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel([BILLED]), settings=ModelSettings(max_attempts=3))
    pinned = await rig.pin()
    request = CallModelRequest(spec=pinned.digest, slots=1, new=(HI,), is_metered=True, tries=2)
    with pytest.raises(ModelCallError) as caught:
        await rig.environment().run(rig.call_model, request)
    assert caught.value.attempts == 3


async def test_a_conversation_that_is_not_found_cost_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(ScriptedModel(["hi"]))
    spec = await rig.pin()
    client = FakeTemporal(events=[])
    with pytest.raises(ConversationUnavailableError):
        await rig.ask(spec, slots=3, new=(), is_metered=True, client=client)
    assert rig.beats[-1].unbilled == 1


async def test_joining_an_open_request_makes_no_second_bill(make_rig: MakeRig) -> None:
    model = ScriptedModel(["hi"], delay_seconds=0.3)
    rig = make_rig(model)
    spec = await rig.pin()
    request = CallModelRequest(spec=spec.digest, slots=1, new=(HI,), is_metered=True)
    one = asyncio.create_task(rig.environment(activity_id="7").run(rig.call_model, request))
    await asyncio.sleep(0.1)
    two = await rig.environment(activity_id="7", attempt=2).run(rig.call_model, request)
    assert two.message.text == (await one).message.text == "hi"
    assert len(model.requests) == 1


@pytest.mark.parametrize("extra", [{"n": 5}, {"max_tokens": 10**6}])
async def test_fields_that_lift_the_bound_are_refused(make_rig: MakeRig, extra: Any) -> None:
    model = ScriptedModel(["hi"])
    rig = make_rig(model, settings=ModelSettings(extra=extra))
    with pytest.raises(UserError, match="no limit of money or tokens can hold"):
        await rig.ask(await rig.pin(), is_metered=True)
    assert model.requests == []
