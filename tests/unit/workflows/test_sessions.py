"""Sessions that continue as new, driven without a server."""

from datetime import timedelta

import pytest

from perdure.contracts.calls import CallToolResult
from perdure.contracts.messages import TextPart, ToolCallPart, tool_message
from perdure.contracts.names import CALL_TOOL, COPY_CONVERSATION, DECIDE_UPDATE, SEND_UPDATE
from perdure.contracts.run import RunInput
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.steering import SendRequest, Session
from perdure.contracts.waits import ApprovalRule, Decider, DecideRequest
from tests.support.drive import update
from tests.support.drive_chain import Chain

IDLE = timedelta(hours=1)
DEPLOY = ToolSpec(name="deploy", parameters={"type": "object"}, idempotent=True, approval=ApprovalRule())
SPEC = AgentSpec(name="a", models=(ModelSpec(name="fake:x"),), tools=(DEPLOY,))


@pytest.fixture
def chain() -> Chain:
    """A session which is told something while it copies the conversation that it has answered."""
    request = RunInput(agent="a", input=(TextPart(text="go"),), session=Session(idle_timeout=IDLE))
    chain = Chain(SPEC, request, held={COPY_CONVERSATION})
    chain.run.is_suggested = True
    chain.reply(TextPart(text="first answer"))
    assert len(chain.runs) == 2
    chain.give(update(SEND_UPDATE, "u1", SendRequest(id="m1", parts=(TextPart(text="more"),))))
    chain.held.clear()
    chain.serve()
    assert [each.sent for each in chain.model_call().new] == ["m1"]
    return chain


def _input(chain: Chain) -> RunInput:
    assert isinstance(chain.run.request, RunInput)
    return chain.run.request


def test_the_idle_time_counts_from_the_last_answer(chain: Chain) -> None:
    chain.run.now += 3 * IDLE
    chain.reply(TextPart(text="second answer"))
    assert chain.run.end is None, "it waited for nobody"
    assert [due - chain.run.now for due in chain.run.timers.values()] == [IDLE]
    chain.replay()


def test_a_turn_that_waits_for_a_person_goes_on(chain: Chain) -> None:
    chain.run.is_suggested = True
    chain.reply(ToolCallPart(id="c1", name="deploy"))
    assert len(chain.runs) == 3
    carried = _input(chain).carried
    assert carried is not None
    assert (carried.answered, carried.resumed is None) == (None, False)
    wait = chain.run.code.waits().waits[0]
    decision = DecideRequest(wait=wait.id, verdict="approve", by=Decider(name="ada", source="os_user"), id="d1")
    chain.give(update(DECIDE_UPDATE, "u2", decision))
    call = chain.find(CALL_TOOL)
    assert call is not None
    chain.end(call, CallToolResult(slot=4, message=tool_message(ToolCallPart(id="c1", name="deploy"), "done")))
    chain.reply(TextPart(text="second answer"))
    assert [due - chain.run.now for due in chain.run.timers.values()] == [IDLE]
    chain.replay()


def test_a_session_that_is_told_nothing_waits_on(chain: Chain) -> None:
    chain.run.is_suggested = True
    chain.reply(TextPart(text="second answer"))
    assert len(chain.runs) == 3
    carried = _input(chain).carried
    assert carried is not None
    assert carried.answered is not None
    assert carried.answered.at == chain.run.now
    assert [due - chain.run.now for due in chain.run.timers.values()] == [IDLE]
    chain.replay()
