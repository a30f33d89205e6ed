"""The replay gate: what a deploy changes, against the stored history of an open run; no server."""

from pathlib import Path

import pytest

from perdure import Agent, App, Limits, tool
from perdure.errors import InvalidInputError
from perdure.testing import ReplayFault, ScriptedModel, check_replay, stored_histories
from tests.support import replay_workflows as workflows

REPLAY = Path(__file__).parents[2] / "replay"
ORDER = REPLAY / "own" / "order.json"


@tool
def stamp(sku: str, ink: str = "red") -> str:
    """Stamp it."""
    return f"{sku} in {ink}"


def app_of(cls: type, **clerk: object) -> App:
    options = {"model": "scripted:x", **clerk}
    agent = Agent("clerk", **options)  # pyright: ignore[reportArgumentType]
    return App(agents=[agent], workflows=[cls], providers=[ScriptedModel(["ok"])])


async def fault_of(cls: type) -> ReplayFault:
    report = await check_replay(app_of(cls), stored_histories(ORDER))
    (fault,) = report.faults
    assert (fault.workflow_id, fault.workflow) == ("order-1", "Order")
    return fault


@pytest.mark.parametrize(
    ("name", "event_id", "event", "cause"),
    [
        ("Added", 11, "StartChildWorkflowExecutionInitiated", "the activity 'notify' was added"),
        ("AddedFirst", 5, "ActivityTaskScheduled", "the activity 'notify' was added"),
        ("Removed", 20, "ActivityTaskScheduled", "'charge' here any more: it was removed"),
        ("WithoutAgent", 11, "StartChildWorkflowExecutionInitiated", "'AgentWorkflow' was removed"),
        ("Reordered", 5, "ActivityTaskScheduled", "their order changed"),
        ("Sleeping", 11, "StartChildWorkflowExecutionInitiated", "(it starts a timer)"),
        ("Renamed", 1, "WorkflowExecutionStarted", "renamed or removed. Did you mean 'Ordering'?"),
    ],
)
async def test_it_catches(name: str, event_id: int, event: str, cause: str) -> None:
    fault = await fault_of(getattr(workflows, name))
    assert (fault.event_id, fault.event) == (event_id, event)
    assert cause in fault.cause
    assert "workflow.patched" in fault.cause or "old name" in fault.cause
    assert cause in str(fault)


async def test_an_exception_where_the_run_went_on() -> None:
    fault = await fault_of(workflows.Broken)
    assert "raises an exception where the run went on: KeyError" in fault.cause


@pytest.mark.parametrize("cls", [workflows.Order, workflows.Patched])
async def test_it_passes_patches_and_timeouts(cls: type) -> None:
    report = await check_replay(app_of(cls), stored_histories(ORDER))
    assert (report.runs, report.faults) == (1, ())


async def test_it_passes_prompts_schemas_and_limits() -> None:
    changed = app_of(workflows.Order, instructions="Another.", tools=[stamp], limits=Limits(max_turns=1))
    stored = stored_histories(REPLAY / "histories" / "0.1.0" / "tools-0.json")
    report = await check_replay(changed, [*stored, *stored_histories(ORDER)])
    assert (report.runs, report.faults) == (2, ())


async def test_a_thousand_events_take_less_than_a_second() -> None:
    """Of CPU time for the part that grows: other tests may have the machine."""
    histories = stored_histories(REPLAY / "histories" / "0.1.0")
    longest = max(histories, key=lambda history: len(history.events))
    one = await check_replay(app_of(workflows.Order), [longest])
    many = await check_replay(app_of(workflows.Order), [longest] * 10)
    assert (many.runs, many.faults) == (10, ())
    more = many.events - one.events
    assert more > 1000
    assert (many.seconds - one.seconds) / more * 1000 < 1


def test_what_is_no_history_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="There is no history"):
        stored_histories(tmp_path)
    for text in ("{", '{"a": 1}', '{"events": []}', "[]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InvalidInputError, match="neither a cassette nor a history"):
            stored_histories(tmp_path)
    with pytest.raises(InvalidInputError, match="Can't read"):
        stored_histories(tmp_path / "gone.json")
