"""Random sequences of what may reach a run, against a model of it.

Messages, pauses, approvals, questions, interruptions, Continue-As-New and cancellation, in any order. Each message
is entered once, in order; each decision is acted on once; nothing starts while the run is paused.

The real workflow code runs, without a server (`tests.support.drive`). Each sequence is replayed at its end.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from perdure.contracts.calls import CallToolRequest, CallToolResult
from perdure.contracts.messages import Message, TextPart, ToolCallPart, ToolResultPart, tool_message
from perdure.contracts.names import (
    CALL_MODEL,
    CALL_TOOL,
    COPY_CONVERSATION,
    DECIDE_UPDATE,
    PAUSE_SIGNAL,
    SEND_UPDATE,
    STATUS_QUERY,
)
from perdure.contracts.run import RunInput, RunStatus
from perdure.contracts.steering import PauseNotice, SendReceipt, SendRequest, Session
from perdure.contracts.waits import DecideRequest, Decision, Wait
from tests.support.drive import OneRun, cancel, fired, read, signal, update
from tests.support.drive_chain import Chain
from tests.support.steered import EDITED, EXPECTED, IDLE, SPEC, Told, call_of, decision_of


class Steering(RuleBasedStateMachine):
    """A run, and what is known of it from outside."""

    @initialize(is_session=st.sampled_from([True, True, False]))
    def begin(self, is_session: bool) -> None:
        self.is_session = is_session
        session = Session(idle_timeout=IDLE) if is_session else None
        self.accepted: list[str] = []
        self.receipts: dict[str, SendReceipt] = {}
        self.is_paused = self.is_cancelled = False
        self.updates = 0
        self.waits: dict[str, Told] = {}
        self.made = Counter[str]()
        self.edited: set[str] = set()
        self.is_allowed = self.is_news = False
        request = RunInput(agent="a", input=(TextPart(text="go"),), session=session)
        Chain(SPEC, request, on_commands=self._look, on_served=self._note_waits)

    @property
    def run(self) -> OneRun:
        return self.chain.run

    def _look(self, commands: Sequence[WorkflowCommand]) -> None:
        """Look at what the run does: nothing new while it is paused, and no call that wasn't allowed."""
        scheduled = [c.schedule_activity for c in commands if c.HasField("schedule_activity")]
        if self.is_paused:
            started = {each.activity_type for each in scheduled}
            assert started <= {COPY_CONVERSATION}, "something new was started while paused"
        for each in scheduled:
            if each.activity_type == CALL_TOOL:
                self._note_call(read(each.arguments[0], CallToolRequest))

    def _note_call(self, asked: CallToolRequest) -> None:
        """Enter that a tool was called: once, and as it was allowed."""
        self.made[asked.call_id] += 1
        if asked.name == "deploy":
            verdict = self._verdict(asked.call_id)
            assert verdict == "approve" or (self.is_allowed and not verdict), "nobody has approved it"
            assert asked.is_edited == (asked.call_id in self.edited)
            assert not asked.is_edited or asked.arguments == EDITED

    def _note_waits(self, chain: Chain) -> None:
        """Enter what waits now; what waits no more was decided, or its time was over, or the run is."""
        self.chain = chain
        pending = {} if self.is_closed else {each.id: each for each in self.run.code._waits.pending}  # pyright: ignore
        for id, wait in pending.items():
            if id not in self.waits:
                self.waits[id] = Told(self._call_of(wait), wait.deadline)
            told = self.waits[id]
            assert (told.verdict, told.deadline) == ("", wait.deadline), "it was decided, or has another deadline"
        for id, told in self.waits.items():
            if not told.verdict and id not in pending and not self.is_cancelled:
                assert told.deadline is not None, "it was forgotten"
                assert told.deadline <= self.run.now, "it was forgotten"
                told.verdict = "expired"

    def _call_of(self, wait: Wait) -> str:
        assert wait.call_slot is not None
        return self._messages()[wait.call_slot].tool_calls[wait.index].id

    def _verdict(self, call: str) -> str:
        return next((each.verdict for each in self.waits.values() if each.call == call), "")

    @property
    def is_closed(self) -> bool:
        return self.run.end is not None

    def _update(self, name: str, request: Any) -> Any:
        """Return what an update is answered with: a payload, or why it is refused."""
        self.updates += 1
        number, run = f"u{self.updates}", self.run
        self.chain.give(update(name, number, request))
        return run.told[number]

    @precondition(lambda self: not self.is_closed)
    @rule(interrupt=st.booleans(), again=st.booleans())
    def send(self, interrupt: bool, again: bool) -> None:
        known = self.accepted[-1] if again and self.accepted else ""
        id = known or f"m{len(self.accepted)}"
        call = self.chain.find(CALL_MODEL)
        request = SendRequest(id=id, parts=(TextPart(text=id),), interrupt=interrupt)
        answer = self._update(SEND_UPDATE, request)
        assert not isinstance(answer, str), answer
        receipt: SendReceipt = read(answer, SendReceipt)
        if known:
            assert receipt.number == self.receipts[id].number, "the second answer is not the first"
        else:
            self.accepted.append(id)
            self.receipts[id] = receipt
            assert receipt.number == len(self.accepted)
            assert call is None or call.is_cancel_requested >= interrupt, "the call in flight was not stopped"

    @precondition(
        lambda self: self.chain.find(CALL_MODEL) is not None and (self.is_session or len(self.accepted) > 1)
    )
    @rule(partial=st.sampled_from(["", "so far"]))
    def answer(self, partial: str) -> None:
        self._reply([], partial)

    @precondition(lambda self: self.chain.find(CALL_MODEL) is not None)
    @rule(wants=st.sampled_from(["deploy ask", "deploy deploy look", "ask look", "deploy", "look look"]))
    def ask_for_calls(self, wants: str) -> None:
        self._reply(wants.split(), "so far")

    def _reply(self, wants: list[str], partial: str) -> None:
        call = self.chain.find(CALL_MODEL)
        assert call is not None
        if call.is_cancel_requested and not partial:
            self.chain.end(call, None)
            return
        stop = "interrupted" if call.is_cancel_requested else "end"
        parts: list[Any] = [TextPart(text=partial or "answer")]
        if not call.is_cancel_requested:
            slots = self.chain.model_call().slots
            ids = [f"c{slots}.{n}" for n in range(len(wants))]
            parts += [call_of(id, name) for id, name in zip(ids, wants, strict=True)]
        self.chain.reply(*parts, stop=stop)

    @precondition(lambda self: self.chain.find(CALL_TOOL) is not None)
    @rule()
    def tool_result(self) -> None:
        call = self.chain.find(CALL_TOOL)
        assert call is not None
        asked: CallToolRequest = read(call.argument, CallToolRequest)
        if call.is_cancel_requested:
            self.chain.end(call, None)
            return
        part = ToolCallPart(id=asked.call_id, name=asked.name)
        self.chain.end(call, CallToolResult(slot=asked.slot, message=tool_message(part, "seen")))

    @precondition(lambda self: self._waiting("approval"))
    @rule(pick=st.integers(0, 9))
    def approve(self, pick: int) -> None:
        self._decide("approval", pick, "approve")

    @precondition(lambda self: self._waiting("approval"))
    @rule(pick=st.integers(0, 9))
    def approve_for_good(self, pick: int) -> None:
        self._decide("approval", pick, "always")

    @precondition(lambda self: self._waiting("approval"))
    @rule(pick=st.integers(0, 9))
    def approve_edited(self, pick: int) -> None:
        self._decide("approval", pick, "edit")

    @precondition(lambda self: self._waiting("approval"))
    @rule(pick=st.integers(0, 9))
    def deny(self, pick: int) -> None:
        self._decide("approval", pick, "deny")

    @precondition(lambda self: self._waiting("question"))
    @rule(pick=st.integers(0, 9))
    def answer_question(self, pick: int) -> None:
        self._decide("question", pick, "answer")

    def _waiting(self, kind: str) -> list[Wait]:
        book = self.run.code._waits  # pyright: ignore[reportPrivateUsage]
        return [] if self.is_closed else [each for each in book.pending if each.kind == kind]

    def _decide(self, kind: str, pick: int, verdict: str) -> None:
        waiting = self._waiting(kind)
        wait = waiting[pick % len(waiting)]
        request = decision_of(wait.id, verdict, f"d{self.updates}")
        refusal = self._refusal(wait)
        if not refusal:
            self._expect(request, wait)
        answer = self._update(DECIDE_UPDATE, request)
        if refusal:
            assert refusal in str(answer)
        else:
            assert read(answer, Decision).id == request.id

    def _refusal(self, wait: Wait) -> str:
        """Return why a decision must be refused; empty where it must be taken."""
        is_late = wait.deadline is not None and wait.deadline <= self.run.now
        return "It came too late" if is_late else ""

    def _expect(self, request: DecideRequest, wait: Wait) -> None:
        """Enter a decision before it is given: the run acts on it in the same step."""
        alike = [self.waits[each.id] for each in self.run.code._waits.pending if each.tool == wait.tool]  # pyright: ignore
        for told in alike if request.is_always else [self.waits[wait.id]]:
            told.verdict, told.decision = request.verdict, request.id
        self.is_news, self.is_allowed = True, self.is_allowed or request.is_always
        if request.arguments is not None:
            self.edited.add(self.waits[wait.id].call)

    @precondition(lambda self: not self.is_closed and self.is_news)
    @rule(pick=st.integers(0, 9), is_same=st.booleans())
    def decide_again(self, pick: int, is_same: bool) -> None:
        self.is_news = False
        id, told = [each for each in self.waits.items() if each[1].verdict][pick % self._decided()]
        verdict = "answer" if told.verdict == "answer" else "deny"
        is_same = is_same and told.decision != ""
        answer = self._update(DECIDE_UPDATE, decision_of(id, verdict, told.decision if is_same else "another"))
        assert isinstance(answer, str) != is_same
        if is_same:
            assert read(answer, Decision).id == told.decision

    def _decided(self) -> int:
        return sum(1 for told in self.waits.values() if told.verdict)

    @precondition(lambda self: not self.is_closed)
    @rule(is_on=st.booleans())
    def pause(self, is_on: bool) -> None:
        self.is_paused = is_on
        self.chain.give(signal(PAUSE_SIGNAL, PauseNotice(is_on=is_on)))

    @precondition(lambda self: self.is_closed or not self.run.is_suggested)
    @rule()
    def suggest_a_new_run(self) -> None:
        self.run.is_suggested = True

    @precondition(lambda self: len(self.accepted) > 2 and not self.is_closed and not self.is_cancelled)
    @rule()
    def cancel(self) -> None:
        self.is_cancelled = True
        self.chain.give(cancel())

    @precondition(lambda self: not self.is_closed)
    @rule()
    def time_passes(self) -> None:
        self.run.now += IDLE
        for timer, due in list(self.run.timers.items()):
            if due <= self.run.now and timer in self.run.timers:
                del self.run.timers[timer]
                self.chain.give(fired(timer))

    @invariant()
    def messages_are_there_once_in_order(self) -> None:
        sent = [each.text for each in self._messages() if each.role == "user" and each.text != "go"]
        waiting = [each.id for each in self.run.code._steering.inbox._waiting]  # pyright: ignore
        assert sent + waiting == self.accepted

    @invariant()
    def results_follow_their_calls(self) -> None:
        """In the model's order; those of the last turn may still be awaited."""
        asked: list[str] = []
        given: list[str] = []
        for message in self._messages():
            results = [part.call_id for part in message.parts if isinstance(part, ToolResultPart)]
            if results:
                given += results
                assert given == [each for each in asked if each in given]
            else:
                assert given == asked, "the conversation went on without a result"
                asked, given = [call.id for call in message.tool_calls], []

    @invariant()
    def results_are_what_was_decided(self) -> None:
        """Each call was made once at most, and only where nobody forbade it; each answer is the person's."""
        tools = {call.id: call.name for message in self._messages() for call in message.tool_calls}
        for message in self._messages():
            for part in message.parts:
                if not isinstance(part, ToolResultPart):
                    continue
                tool, verdict = tools[part.call_id], self._verdict(part.call_id)
                text = "".join(getattr(each, "text", "") for each in part.content)
                assert text == EXPECTED[tool, verdict], (tool, verdict)
                assert self.made[part.call_id] == (text == "seen")

    @invariant()
    def it_says_what_it_does(self) -> None:
        state = self.run.query(STATUS_QUERY, RunStatus).state
        if self.run.end is not None:
            assert state in ("completed", "cancelled")
            return
        kinds = {each.kind for each in self.run.code._waits.pending}  # pyright: ignore[reportPrivateUsage]
        if kinds:
            assert state == ("waiting_approval" if "approval" in kinds else "waiting_answer")
        elif self.is_paused:
            assert state == "paused"
        else:
            assert state in ("starting", "working", "idle")

    @invariant()
    def it_ends_as_it_should(self) -> None:
        end = self.run.end
        if end is None:
            waits = self.run.code._waits.pending  # pyright: ignore[reportPrivateUsage]
            assert self.run.activities or self.is_paused or self.run.timers or waits, "nothing would ever wake it"
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


Steering.TestCase.settings = settings(max_examples=300, stateful_step_count=50)
TestSteering = Steering.TestCase
