"""Waits that the run which continues theirs reopens, driven without a server."""

import json
from datetime import timedelta

import pytest

from perdure.contracts.calls import CallToolRequest, CallToolResult
from perdure.contracts.messages import TextPart, ToolCallPart, tool_message
from perdure.contracts.names import CALL_TOOL, CHECK_APPROVAL, COPY_CONVERSATION, DECIDE_UPDATE, PAUSE_SIGNAL
from perdure.contracts.run import RunInput
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.steering import PauseNotice
from perdure.contracts.waits import ApprovalAdvice, ApprovalRule, CheckApprovalRequest, Wait
from tests.support.drive import fired, read, signal, update
from tests.support.drive_chain import Chain
from tests.support.steered import decision_of

DAY = timedelta(days=1)
PAY = ToolSpec(name="pay", parameters={"type": "object"}, approval=ApprovalRule(), approval_policy="by amount")
SPEC = AgentSpec(name="a", models=(ModelSpec(name="fake:x"),), tools=(PAY,))


def begin(*groups: str) -> Chain:
    """Return a run that waits for the approval of a call for each group, as the tool's policy has said."""
    chain = Chain(SPEC, RunInput(agent="a", input=(TextPart(text="go"),)))
    chain.reply(*(ToolCallPart(id=each, name="pay", arguments=json.dumps({"to": each})) for each in groups))
    while (call := chain.find(CHECK_APPROVAL)) is not None:
        group: str = json.loads(read(call.argument, CheckApprovalRequest).arguments)["to"]
        rule = ApprovalRule(group=group, deadline=DAY, on_deadline="fail")
        chain.end(call, ApprovalAdvice(reason=f"{group} is to know", rule=rule))
    return chain


def waits_of(chain: Chain) -> tuple[Wait, ...]:
    return chain.run.code.waits().waits


def pause(chain: Chain, *, is_on: bool) -> None:
    chain.give(signal(PAUSE_SIGNAL, PauseNotice(is_on=is_on)))


def continue_as_new(chain: Chain, *, is_paused: bool) -> None:
    """Have the run continue as new; whether it is to is looked at when something comes."""
    runs = len(chain.runs)
    chain.run.is_suggested = True
    pause(chain, is_on=is_paused)
    assert len(chain.runs) == runs + 1


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_policy_is_asked_once(is_paused: bool) -> None:
    chain = begin("ops")
    before = waits_of(chain)
    for _ in range(2):
        continue_as_new(chain, is_paused=is_paused)
    assert waits_of(chain) == before
    assert chain.find(CHECK_APPROVAL) is None
    chain.give(update(DECIDE_UPDATE, "u", decision_of(before[0].id, "edit", "d")))
    assert (chain.find(CALL_TOOL) is None) == is_paused
    pause(chain, is_on=False)
    call = chain.find(CALL_TOOL)
    assert call is not None
    assert read(call.argument, CallToolRequest).is_edited
    chain.replay()


def test_what_it_said_of_the_deadline_holds() -> None:
    chain = begin("ops")
    continue_as_new(chain, is_paused=True)
    chain.run.now += DAY
    chain.give(*map(fired, chain.run.timers))
    assert chain.run.end is not None
    assert "ApprovalTimeout" in str(chain.run.end.fail_workflow_execution.failure)
    chain.replay()


def test_a_group_that_was_asked_is_waited_for() -> None:
    """What another group approved for the rest of the run is for calls that come."""
    chain = begin("ops", "boss")
    ops, boss = waits_of(chain)
    chain.give(update(DECIDE_UPDATE, "u", decision_of(ops.id, "always", "d")))
    call = chain.find(CALL_TOOL)
    assert call is not None
    result = tool_message(ToolCallPart(id="ops", name="pay"), "paid")
    chain.end(call, CallToolResult(slot=read(call.argument, CallToolRequest).slot, message=result))
    continue_as_new(chain, is_paused=False)
    assert waits_of(chain) == (boss,)
    assert chain.find(CALL_TOOL) is None
    chain.replay()


def test_a_decision_that_comes_before_a_wait_is_reopened_counts() -> None:
    chain = begin("ops")
    chain.held = {COPY_CONVERSATION}
    (wait,) = waits_of(chain)
    continue_as_new(chain, is_paused=True)
    chain.give(update(DECIDE_UPDATE, "u", decision_of(wait.id, "approve", "d")))
    chain.held = set()
    chain.serve()
    assert not chain.run.activities, "something was started while it was paused"
    pause(chain, is_on=False)
    assert [each.name for each in chain.run.activities.values()] == [CALL_TOOL]
    chain.replay()
