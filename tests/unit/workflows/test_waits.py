"""The book of waits against a model of it: no decision is lost, or counts twice, whatever comes in between."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from perdure.contracts.waits import Decider, DecideRequest, Wait, WaitsState
from perdure.errors import InvalidInputError
from perdure.workflows._waits import WaitBook

START = datetime(2026, 1, 1, tzinfo=UTC)
BY = Decider(name="ada", source="os_user")


def make_wait(name: str, *, term: timedelta | None = None, **fields: Any) -> Wait:
    deadline = None if term is None else START + term
    return Wait(id=name, kind="approval", asked_at=START, tool="deploy", deadline=deadline, term=term, **fields)


def request(name: str, verdict: Any = "approve", *, id: str = "1", **fields: Any) -> DecideRequest:
    return DecideRequest(wait=name, verdict=verdict, by=BY, id=id, **fields)


def faults(value: Any) -> list[str]:
    return [] if isinstance(value, dict) else ["no object"]


def decide(book: WaitBook, asked: DecideRequest, now: datetime = START) -> None:
    book.check(asked, now)
    book.decide(asked, now)


@dataclass
class Told:
    """What the model knows of a wait."""

    group: str
    deadline: datetime | None
    escalates: bool
    outcome: str = ""
    decision: str = ""
    is_taken: bool = False
    tool: str = "deploy"


@dataclass
class Model:
    waits: dict[str, Told] = field(default_factory=dict[str, Told])
    allowed: set[str] = field(default_factory=set[str])


class Steering(RuleBasedStateMachine):
    """Waits are asked, decided, expire, are acted on and withdrawn; the run continues as new at any point."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.book = WaitBook()
        self.model = Model()
        self.now = START
        self.number = 0
        self.decisions = 0
        self.changes = 0
        self.book.on_change = self._changed

    def _changed(self) -> None:
        self.changes += 1

    @rule(
        target=names,
        term=st.none() | st.integers(1, 5).map(lambda hours: timedelta(hours=hours)),
        escalates=st.booleans(),
        tool=st.sampled_from(["deploy", "pay"]),
        group=st.sampled_from(["", "ops"]),
    )
    def ask(self, term: timedelta | None, escalates: bool, tool: str, group: str) -> str:
        name = f"w{self.number}"
        self.number += 1
        until = None if term is None else self.now + term
        kind: Any = "escalate" if escalates and term else "deny"
        wait = Wait(
            id=name,
            kind="approval",
            asked_at=self.now,
            tool=tool,
            group=group,
            deadline=until,
            term=term,
            on_deadline=kind,
            escalate_to="boss",
        )
        self.book.ask(wait, faults)
        self.model.waits[name] = Told(group, until, escalates=kind == "escalate", tool=tool)
        return name

    @rule(name=names, verdict=st.sampled_from(["approve", "deny"]), always=st.booleans())
    def decide(self, name: str, verdict: str, always: bool) -> None:
        told = self.model.waits[name]
        self.decisions += 1
        asked = request(name, verdict, id=f"d{self.decisions}", is_always=always and verdict == "approve")
        before = self.book.state()
        is_late = told.deadline is not None and self.now >= told.deadline and not told.escalates
        if told.outcome or is_late:
            with pytest.raises(InvalidInputError):
                self.book.check(asked, self.now)
            assert self.book.state() == before, "a refused decision left a trace"
            return
        self.book.check(asked, self.now)
        assert self.book.state() == before, "checking changed something"
        decision = self.book.decide(asked, self.now)
        outcome = "approved" if verdict == "approve" else "denied"
        assert (decision.outcome, decision.by, decision.at) == (outcome, BY, self.now)
        told.outcome, told.decision = outcome, asked.id
        if asked.is_always:
            self.model.allowed.add(told.tool)
            for other in self.model.waits.values():
                if not other.outcome and (other.tool, other.group) == (told.tool, told.group):
                    other.outcome, other.decision = outcome, asked.id

    @rule(name=names)
    def deliver_again(self, name: str) -> None:
        told = self.model.waits[name]
        if told.decision:
            again = request(name, "approve", id=told.decision)
            before = self.book.state()
            self.book.check(again, self.now)
            assert self.book.decide(again, self.now).outcome == told.outcome
            assert self.book.state() == before

    @rule(hours=st.integers(0, 3))
    def time_goes_by(self, hours: int) -> None:
        """Let timers fire, as the shell would."""
        self.now += timedelta(hours=hours)
        for name, told in self.model.waits.items():
            if told.outcome or told.deadline is None or self.now < told.deadline:
                continue
            is_over = self.book.expire(name, self.now)
            assert is_over != told.escalates
            if told.escalates:
                term = self.book.find(name).term
                assert term is not None
                told.escalates, told.group, told.deadline = False, "boss", self.now + term
            else:
                told.outcome = "expired"

    @rule(name=names)
    def act(self, name: str) -> None:
        """The run takes a decision, once."""
        told = self.model.waits[name]
        if not self.book.is_settled(name):
            assert not told.outcome
            return
        taken = self.book.take(name)
        is_due = told.decision != "" and not told.is_taken
        assert (taken is not None) == is_due
        if taken is not None:
            assert taken.id == told.decision
            told.is_taken = True

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        if not self.book.is_settled(name):
            self.book.withdraw(name)
            del self.model.waits[name]
            self.model.waits[name] = Told("", None, escalates=False, outcome="withdrawn")

    @rule(is_asked_again=st.booleans())
    def continue_as_new(self, is_asked_again: bool) -> None:
        pending = self.book.pending
        state = WaitsState.model_validate_json(self.book.state().to_bytes())
        self.book = WaitBook(state)
        self.book.on_change = self._changed
        for wait in pending:
            if is_asked_again:
                fresh = wait.model_copy(update={"group": "not this", "deadline": None, "asked_at": self.now})
                kept = self.book.ask(fresh, faults)
                assert kept == wait, "its times and its group are those from before"

    @invariant()
    def they_agree(self) -> None:
        open_waits = {name: told for name, told in self.model.waits.items() if not told.outcome}
        assert {wait.id: (wait.group, wait.deadline) for wait in self.book.pending} == {
            name: (told.group, told.deadline) for name, told in open_waits.items()
        }
        assert self.book.run_state() == ("waiting_approval" if open_waits else None)
        for tool in ("deploy", "pay"):
            assert self.book.is_allowed(tool) == (tool in self.model.allowed)


TestSteering = Steering.TestCase
TestSteering.settings = settings(max_examples=200, stateful_step_count=30)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (request("other"), "Nothing with the id 'other' waits here. What waits: w"),
        (request("w", "answer"), "'w' is an approval: approve or deny it"),
        (request("w", "deny", arguments="{}"), "are for approving"),
        (request("w", arguments="{"), "are not JSON"),
        (request("w", arguments="[]"), "don't fit the schema: no object"),
        (request("w", "deny", reason="x" * 1001), "shorten it"),
        (request("w", arguments='{"a": "' + "x" * 300_000 + '"}'), "more than 256000 bytes"),
    ],
)
def test_what_is_refused(asked: DecideRequest, problem: str) -> None:
    book = WaitBook()
    book.ask(make_wait("w"), faults)
    with pytest.raises(InvalidInputError, match=problem):
        book.check(asked, START)


def _pad(size: int) -> str:
    return '{"a": "' + "x" * size + '"}'


def test_decisions_that_the_run_has_not_acted_on_are_bounded() -> None:
    """They go along when it continues as new."""
    book = WaitBook()
    for number in range(5):
        book.ask(make_wait(f"w{number}"), faults)
    decide(book, request("w0", arguments=_pad(240_000)))
    decide(book, request("w1", arguments=_pad(240_000)))
    with pytest.raises(InvalidInputError, match=r"the run holds 480,046 bytes of other answers and arguments"):
        book.check(request("w2", arguments=_pad(240_000)), START)
    decide(book, request("w3"))
    decide(book, request("w4", arguments=_pad(100)))
    assert len(book.state().to_bytes()) < 600_000
    book.take("w0")
    decide(book, request("w2", arguments=_pad(240_000)))


def test_answers_count_until_they_are_recorded() -> None:
    book = WaitBook()
    for number in range(4):
        book.ask(Wait(id=f"q{number}", kind="question", asked_at=START, conversation="c"), lambda _: [])
    for number in range(2):
        asked = request(f"q{number}", "answer", answer="x" * 240_000)
        decide(book, asked)
        assert book.take(asked.wait) is not None
        book.enter("c", asked)
    another = request("q2", "answer", answer="x" * 240_000)
    with pytest.raises(InvalidInputError, match="at most 500,000 together"):
        book.check(another, START)
    book.begin_turn("other")
    with pytest.raises(InvalidInputError, match="at most 500,000 together"):
        book.check(another, START)
    book.begin_turn("c")
    decide(book, another)


def test_a_second_decision_is_told_of_the_first() -> None:
    book = WaitBook()
    book.ask(make_wait("w"), faults)
    decide(book, request("w", "deny"))
    with pytest.raises(InvalidInputError, match="It was denied before, by ada at 2026-01-01 00:00:00Z"):
        book.check(request("w", id="2"), START)


def test_a_late_decision_is_told_so() -> None:
    book = WaitBook()
    book.ask(make_wait("w", term=timedelta(hours=1)), faults)
    late = START + timedelta(hours=1)
    with pytest.raises(InvalidInputError, match="too late: the time for it was over at 2026-01-01 01:00"):
        book.check(request("w"), late)
    assert book.expire("w", late)
    with pytest.raises(InvalidInputError, match="too late: nobody had decided by"):
        book.check(request("w"), late)


def test_what_needs_a_schema_waits_until_the_run_has_come_to_it() -> None:
    book = WaitBook()
    book.ask(make_wait("w", arguments='{"a": 1}', reason="because"), faults)
    again = WaitBook(book.state())
    assert again.pending[0].arguments == ""
    with pytest.raises(InvalidInputError, match="has just continued as new"):
        again.check(request("w", arguments="{}"), START)
    decide(again, request("w"))
    assert again.take("w") is not None


def test_a_call_that_is_asked_again_can_be_decided_again() -> None:
    """A run that was started again asks for the calls that it had not made."""
    book = WaitBook()
    book.ask(make_wait("w"), faults)
    decide(book, request("w"))
    book.take("w")
    book.ask(make_wait("w"), faults)
    decide(book, request("w", "deny", id="2"))
    taken = book.take("w")
    assert taken is not None
    assert taken.verdict == "deny"


def test_what_is_remembered_is_bounded() -> None:
    book = WaitBook()
    for number in range(500):
        book.ask(make_wait(f"w{number}"), faults)
        decide(book, request(f"w{number}"))
        book.take(f"w{number}")
    assert len(book.state().decided) == 200
    assert len(book.page().decided) == 50
    assert len(book.state().to_bytes()) < 50_000


def test_a_page_fits_into_a_payload() -> None:
    book = WaitBook()
    for number in range(500):
        book.ask(make_wait(f"w{number}", arguments="x" * 4000), faults)
    page = book.page()
    assert (page.total, len(page.to_bytes()) < 1_100_000) == (500, True)
    assert len(book.state().to_bytes()) < 150_000


def test_what_policies_said_goes_along_in_short() -> None:
    book = WaitBook()
    book.ask(make_wait("w", note="x" * 1000), faults)
    assert book.state().pending[0].note == "x" * 1000
    for number in range(999):
        book.ask(make_wait(f"w{number}", note="é" * 1000), faults)
    assert {len(wait.note.encode()) for wait in book.state().pending} == {53}
    without = WaitBook()
    for number in range(1000):
        without.ask(make_wait(f"w{number}"), faults)
    assert len(book.state().to_bytes()) - len(without.state().to_bytes()) < 70_000


def test_it_says_what_it_waits_for() -> None:
    book = WaitBook()
    assert book.told() == ""
    for number in range(7):
        book.ask(make_wait(f"w{number}"), faults)
    assert book.told() == f"waits for {', '.join(['approval of deploy'] * 5)} and 2 more"
    asks = WaitBook()
    asks.ask(Wait(id="q", kind="question", asked_at=START, question="Which?"), faults)
    assert (asks.told(), asks.run_state()) == ("waits for an answer to 'Which?'", "waiting_answer")
