"""Random sequences of what may reach a run, against a model of it: each message is entered once, in order.

The real workflow code runs, without a server (`tests.support.drive`). Each sequence is replayed at its end.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from perdure.contracts.calls import CallToolRequest, CallToolResult
from perdure.contracts.messages import Message, TextPart, ToolCallPart, tool_message
from perdure.contracts.names import CALL_MODEL, CALL_TOOL, COPY_CONVERSATION, PAUSE_SIGNAL, SEND_UPDATE
from perdure.contracts.run import RunInput
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.steering import PauseNotice, SendReceipt, SendRequest, Session
from tests.support.drive import OneRun, cancel, fired, read, signal, update
from tests.support.drive_chain import Chain

SPEC = AgentSpec(
    name="a",
    models=(ModelSpec(name="fake:x"),),
    tools=(ToolSpec(name="look", parameters={"type": "object"}, idempotent=True),),
)
CLOSED = ("complete_workflow_execution", "fail_workflow_execution", "cancel_workflow_execution")
IDLE = timedelta(hours=1)


class Steering(RuleBasedStateMachine):
    """A run, and what is known of it from outside."""

    @initialize(is_session=st.booleans())
    def begin(self, is_session: bool) -> None:
        session = Session(idle_timeout=IDLE) if is_session else None
        self.accepted: list[str] = []
        self.receipts: dict[str, SendReceipt] = {}
        self.is_paused = self.is_cancelled = False
        self.updates = 0
        request = RunInput(agent="a", input=(TextPart(text="go"),), session=session)
        self.chain = Chain(SPEC, request, on_commands=self._look)

    def _look(self, commands: Sequence[WorkflowCommand]) -> None:
        """Nothing is started by what comes while the run is paused."""
        started = {c.schedule_activity.activity_type for c in commands if c.HasField("schedule_activity")}
        if self.is_paused:
            assert started <= {COPY_CONVERSATION}, "something new was started while paused"

    @property
    def run(self) -> OneRun:
        return self.chain.run

    @property
    def is_closed(self) -> bool:
        return self.run.end is not None

    @rule(interrupt=st.booleans(), again=st.booleans())
    def send(self, interrupt: bool, again: bool) -> None:
        known = self.accepted[-1] if again and self.accepted else ""
        id = known or f"m{len(self.accepted)}"
        if self.is_closed:
            return
        call, self.updates = self.chain.find(CALL_MODEL), self.updates + 1
        number, run = f"u{self.updates}", self.run
        request = SendRequest(id=id, parts=(TextPart(text=id),), interrupt=interrupt)
        self.chain.give(update(SEND_UPDATE, number, request))
        answer = run.told[number]
        assert not isinstance(answer, str), answer
        receipt: SendReceipt = read(answer, SendReceipt)
        if known:
            assert receipt.number == self.receipts[id].number, "the second answer is not the first"
        else:
            self.accepted.append(id)
            self.receipts[id] = receipt
            assert receipt.number == len(self.accepted)
            assert call is None or call.is_cancel_requested >= interrupt, "the call in flight was not stopped"

    @precondition(lambda self: self.chain.find(CALL_MODEL) is not None)
    @rule(wants_tools=st.integers(0, 2), partial=st.sampled_from(["", "so far"]))
    def reply(self, wants_tools: int, partial: str) -> None:
        call = self.chain.find(CALL_MODEL)
        assert call is not None
        if call.is_cancel_requested and not partial:
            self.chain.end(call, None)
            return
        parts: list[Any] = [TextPart(text=partial or "answer")]
        if not call.is_cancel_requested:
            slots = self.chain.model_call().slots
            parts += [ToolCallPart(id=f"c{slots}.{n}", name="look") for n in range(wants_tools)]
        self.chain.reply(*parts, stop="interrupted" if call.is_cancel_requested else "end")

    @precondition(lambda self: self.chain.find(CALL_TOOL) is not None)
    @rule()
    def tool_result(self) -> None:
        call = self.chain.find(CALL_TOOL)
        assert call is not None
        asked: CallToolRequest = read(call.argument, CallToolRequest)
        if call.is_cancel_requested:
            self.chain.end(call, None)
            return
        part = ToolCallPart(id=asked.call_id, name="look")
        self.chain.end(call, CallToolResult(slot=asked.slot, message=tool_message(part, "seen")))

    @rule(is_on=st.booleans())
    def pause(self, is_on: bool) -> None:
        if not self.is_closed:
            self.is_paused = is_on
            self.chain.give(signal(PAUSE_SIGNAL, PauseNotice(is_on=is_on)))

    @rule()
    def suggest_a_new_run(self) -> None:
        self.run.is_suggested = True

    @precondition(lambda self: len(self.accepted) > 1)
    @rule()
    def cancel(self) -> None:
        if not self.is_closed and not self.is_cancelled:
            self.is_cancelled = True
            self.chain.give(cancel())

    @rule()
    def time_passes(self) -> None:
        if self.is_closed:
            return
        self.run.now += IDLE
        for timer in list(self.run.timers):
            del self.run.timers[timer]
            self.chain.give(fired(timer))

    @invariant()
    def messages_are_there_once_in_order(self) -> None:
        sent = [each.text for each in self._messages() if each.role == "user" and each.text != "go"]
        waiting = [each.id for each in self.run.code._steering.inbox._waiting]  # pyright: ignore
        assert sent + waiting == self.accepted

    @invariant()
    def results_follow_their_calls(self) -> None:
        expected: list[str] = []
        for message in self._messages():
            if expected:
                assert [getattr(part, "call_id", "") for part in message.parts] == [expected.pop(0)]
            expected += [call.id for call in message.tool_calls]

    @invariant()
    def it_ends_as_it_should(self) -> None:
        end = self.run.end
        if end is None:
            assert self.run.activities or self.is_paused or self.run.timers, "nothing would ever wake it"
            return
        kind = end.WhichOneof("variant")
        if self.is_cancelled:
            assert kind == "cancel_workflow_execution"
            return
        assert kind == "complete_workflow_execution"
        assert not self.run.code._steering.inbox, "a message was left behind"  # pyright: ignore

    def _messages(self) -> tuple[Message, ...]:
        return self.run.code._conversation.messages()  # pyright: ignore[reportPrivateUsage]

    def teardown(self) -> None:
        if hasattr(self, "chain"):
            self.chain.replay()


Steering.TestCase.settings = settings(max_examples=200, stateful_step_count=20)
TestSteering = Steering.TestCase
