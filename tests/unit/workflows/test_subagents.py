"""Subagents of a run, driven without a server: ids, and what their ends mean for who called them."""

from datetime import UTC, datetime

from perdure.contracts.messages import Message, TextPart, ToolCallPart
from perdure.contracts.names import RESUME_RUN
from perdure.contracts.rerun import ResumeRunResult
from perdure.contracts.run import Carried, EarlierRun, ResumedCall, ResumedTurn, RunInput, RunResult
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.errors import LimitExceeded
from tests.support.drive import cancel
from tests.support.drive_chain import Chain

CRITIC = ToolSpec(name="critic", parameters={"type": "object"}, agent="critic")
SPEC = AgentSpec(name="a", models=(ModelSpec(name="fake:x"),), tools=(CRITIC,))
GO = RunInput(agent="a", input=(TextPart(text="go"),))


def _calls(count: int) -> list[ToolCallPart]:
    return [ToolCallPart(id=f"c{n}", name="critic", arguments='{"input": "look"}') for n in range(count)]


def _told(chain: Chain) -> list[str]:
    """Return what the model is told of calls."""
    return [part.content[0].text for each in chain.model_call().new for part in each.message.parts]  # pyright: ignore


def test_who_called_a_subagent_that_somebody_cancelled_goes_on() -> None:
    chain = Chain(SPEC, GO)
    chain.reply(*_calls(2))
    children = chain.start_children()
    chain.end_child(children["w/critic-1"], None)
    assert chain.run.end is None
    assert not children["w/critic-2"].is_cancel_requested
    chain.end_child(children["w/critic-2"], RunResult(agent="critic", output="fine"))
    assert _told(chain) == ["agent 'critic': its run was cancelled."]
    chain.replay()


def test_a_run_that_is_cancelled_ends_with_its_subagents() -> None:
    chain = Chain(SPEC, GO)
    chain.reply(*_calls(1))
    child = chain.start_children()["w/critic-1"]
    chain.give(cancel())
    assert child.is_cancel_requested
    chain.end_child(child, None)
    assert chain.run.end is not None
    assert chain.run.end.WhichOneof("variant") == "cancel_workflow_execution"
    chain.replay()


def test_a_run_that_is_cancelled_while_a_subagent_starts_ends() -> None:
    chain = Chain(SPEC, GO)
    chain.reply(*_calls(1))
    chain.give(cancel())
    assert chain.run.end is not None
    assert chain.run.end.WhichOneof("variant") == "cancel_workflow_execution"
    chain.replay()


def test_a_subagent_that_failed_is_told_with_its_name() -> None:
    chain = Chain(SPEC, GO)
    chain.reply(*_calls(1))
    chain.end_child(chain.start_children()["w/critic-1"], LimitExceeded("enough", limit="max_turns=1"))
    assert _told(chain) == ["agent 'critic': enough"]
    chain.replay()


def test_a_subagent_that_goes_on_keeps_its_id_to_itself() -> None:
    """Of two calls of a turn, the first had been begun when the run ended."""
    messages = [
        Message(role="user", parts=(TextPart(text="go"),)),
        Message(role="assistant", parts=tuple(_calls(3)), model="fake:x"),
    ]
    cut_off = ResumedCall(slot=2, run=EarlierRun(workflow_id="w/critic-4", run_id="r"))
    carried = Carried(
        from_run_id="before",
        spec=SPEC.digest,
        conversation_slots=2,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        resumed=ResumedTurn(calls=(cut_off,)),
    )
    chain = Chain(SPEC, GO.model_copy(update={"carried": carried}), messages=messages)
    asked = chain.find(RESUME_RUN)
    assert asked is not None
    chain.end(asked, ResumeRunResult())
    children = chain.start_children()
    assert sorted(children) == ["w/critic-4", "w/critic-5", "w/critic-6"]
    for child in children.values():
        chain.end_child(child, RunResult(agent="critic", output="fine"))
    assert chain.model_call().slots == 5
    chain.replay()
