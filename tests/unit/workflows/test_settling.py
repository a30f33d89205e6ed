"""What a run leaves of its parent's money when it does not complete, driven without a server."""

from typing import Any

import pytest
from temporalio import workflow

from perdure.contracts.budget import Amount, Lease, LeaseReport, settled_in
from perdure.contracts.limits import ModelSettings
from perdure.contracts.map import MapInput, MapSlice
from perdure.contracts.messages import TextPart
from perdure.contracts.names import CALL_MODEL, LOAD_AGENT
from perdure.contracts.run import Counters, RunInput, RunResult
from perdure.contracts.spec import AgentSpec, ModelSpec
from perdure.errors import LimitExceeded, PerdureError, UnknownAgentError, revive
from perdure.workflows.map_workflows import MapNode
from tests.support.drive import CONVERTER, OneRun, cancel, child_ended, child_started, delivered, failed, read
from tests.support.drive_chain import Chain

PARENT = workflow.ParentInfo(namespace="default", run_id="p-run", workflow_id="p")
LEASE = Lease(parent="p", granted=Amount(tokens=10_000), has_tokens=True)
SPEC = AgentSpec(
    name="a", models=(ModelSpec(name="fake:x"),), settings=ModelSettings(max_output_tokens=1000), is_metered=True
)
GO = RunInput(agent="a", input=(TextPart(text="go"),), lease=LEASE)


def _report(run: OneRun) -> LeaseReport:
    """Return what the run of the parent is told; then the run goes on."""
    (letter,) = run.letters.values()
    assert letter.to == ("p", "p-run")
    assert run.end is None, "it ended before its parent knew"
    run.letters.clear()
    run.activate(delivered(letter))
    return read(letter.argument, LeaseReport)


def _end(run: OneRun) -> Any:
    assert run.end is not None
    return run.end.WhichOneof("variant")


def _failure(run: OneRun) -> PerdureError:
    assert _end(run) == "fail_workflow_execution"
    given = run.end.fail_workflow_execution.failure  # pyright: ignore
    error = revive(CONVERTER.failure_converter.from_failure(given, CONVERTER.payload_converter))
    assert isinstance(error, PerdureError)
    return error


def test_a_run_that_is_cancelled_gives_back_what_it_has_left() -> None:
    chain = Chain(SPEC, GO, parent=PARENT)
    call = chain.find(CALL_MODEL)
    assert call is not None
    chain.give(cancel())
    chain.end(call, None)
    report = _report(chain.run)
    assert 1_000 < report.spent.tokens < 3_000, "a call that was cut counts at its worst case"
    assert report.returned.tokens == 10_000 - report.spent.tokens
    assert _end(chain.run) == "cancel_workflow_execution"
    chain.replay()


def test_a_run_that_is_cancelled_before_it_is_at_work_gives_back_all() -> None:
    chain = Chain(SPEC, GO, parent=PARENT, held={LOAD_AGENT})
    call = chain.find(LOAD_AGENT)
    assert call is not None
    chain.give(cancel())
    chain.end(call, None)
    assert _report(chain.run).returned.tokens == 10_000
    assert _end(chain.run) == "cancel_workflow_execution"
    chain.replay()


def test_a_run_that_is_cancelled_without_a_lease_tells_nobody() -> None:
    chain = Chain(SPEC, GO.model_copy(update={"lease": None}), parent=PARENT)
    call = chain.find(CALL_MODEL)
    assert call is not None
    chain.give(cancel())
    chain.end(call, None)
    assert not chain.run.letters
    assert _end(chain.run) == "cancel_workflow_execution"


def test_a_run_that_fails_before_it_is_at_work_took_nothing() -> None:
    chain = Chain(SPEC, GO, parent=PARENT, held={LOAD_AGENT})
    call = chain.find(LOAD_AGENT)
    assert call is not None
    chain.run.activities.clear()
    chain.give(failed(call, UnknownAgentError("No agent 'a'.")))
    failure = _failure(chain.run)
    assert isinstance(failure, UnknownAgentError)
    assert settled_in(failure.attributes) == Amount()
    chain.replay()


@pytest.fixture
def node() -> OneRun:
    """A node of a map, with both of its items at work."""
    given = MapSlice(map=MapInput(agent="a", items=("one", "two")), start=0, prefix="p", lease=LEASE)
    node = OneRun(given, 1, cls=MapNode, parent=PARENT)
    node.activate()
    node.activate(*map(child_started, node.children.values()))
    return node


def _result(tokens: int) -> RunResult:
    return RunResult(agent="a", output="fine", counters=Counters(), settled=Amount(tokens=tokens))


def test_a_node_that_fails_gives_back_what_it_has_left(node: OneRun) -> None:
    one, two = node.children.values()
    node.activate(child_ended(one, LimitExceeded("enough", settled={"tokens": 300})))
    assert two.is_cancel_requested
    node.activate(child_ended(two, None))
    report = _report(node)
    lent = 10_000 // 3
    assert (report.spent.tokens, report.returned.tokens) == (300 + lent, 10_000 - 300 - lent)
    assert isinstance(_failure(node), LimitExceeded)
    node.replay()


def test_a_node_that_is_cancelled_gives_back_what_it_has_left(node: OneRun) -> None:
    one, two = node.children.values()
    node.activate(cancel())
    node.activate(child_ended(one, None), child_ended(two, _result(300)))
    lent = 10_000 // 3
    assert _report(node).returned.tokens == 10_000 - 300 - lent
    assert _end(node) == "cancel_workflow_execution"
    node.replay()


def test_a_node_that_completes_says_so_in_its_page(node: OneRun) -> None:
    node.activate(*(child_ended(child, _result(300)) for child in node.children.values()))
    assert not node.letters
    assert _end(node) == "complete_workflow_execution"
    node.replay()
