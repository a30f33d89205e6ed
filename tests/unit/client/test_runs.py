"""How runs are listed and how failures of a run and of the server are told."""

from typing import Any

import pytest
from temporalio.api.workflow.v1 import PendingActivityInfo, WorkflowExecutionInfo
from temporalio.client import Client, WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, TimeoutError, TimeoutType
from temporalio.service import RPCError, RPCStatusCode

from perdure._task_queues import _quoted as quoted_queue
from perdure.client._runs import _query_error, list_query, not_found, status_name, to_info
from perdure.client._show import _pending
from perdure.client.perdure_client import _new_id, to_run_error
from perdure.contracts.calls import Progress
from perdure.contracts.texts import one_line
from perdure.errors import (
    InvalidInputError,
    LimitExceeded,
    PerdureError,
    RunCancelled,
    RunError,
    RunNotFoundError,
    RunTerminated,
)


class ConverterOnly:
    data_converter = pydantic_data_converter


CLIENT: Any = ConverterOnly()


def encoded(value: Any) -> Any:
    return pydantic_data_converter.payload_converter.to_payloads([value])[0]


def rpc_error(status: RPCStatusCode, message: str = "said the server") -> RPCError:
    return RPCError(message, status, b"")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "unknown"),
        (1, "running"),
        (2, "completed"),
        (3, "failed"),
        (4, "canceled"),
        (5, "terminated"),
        (6, "continued_as_new"),
        (7, "timed_out"),
        (8, "paused"),
        (99, "unknown"),
    ],
)
def test_every_status_has_a_name(number: int, name: str) -> None:
    assert status_name(number) == name


def test_a_status_of_a_newer_server_hides_no_run() -> None:
    assert to_info(WorkflowExecutionInfo(status=77), CLIENT).status == "unknown"  # pyright: ignore


def test_a_listed_run() -> None:
    info = WorkflowExecutionInfo(task_queue="q", history_length=7, history_size_bytes=900)
    info.execution.workflow_id, info.execution.run_id, info.type.name = "w", "r", "AgentWorkflow"
    info.start_time.FromJsonString("2026-01-02T03:04:05Z")
    info.search_attributes.indexed_fields["PerdureAgent"].CopyFrom(encoded("worker"))
    info.search_attributes.indexed_fields["TheirOwn"].CopyFrom(encoded("x"))
    run = to_info(info, CLIENT)
    assert (run.workflow_id, run.run_id, run.workflow, run.task_queue) == ("w", "r", "AgentWorkflow", "q")
    assert (run.agent, run.state, run.closed_at) == ("worker", None, None)
    assert (run.history_events, run.history_bytes) == (7, 900)
    assert run.started_at.isoformat() == "2026-01-02T03:04:05+00:00"
    info.close_time.FromJsonString("2026-01-02T03:04:06Z")
    closed = to_info(info, CLIENT).closed_at
    assert closed is not None
    assert closed.second == 6


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ({}, ""),
        ({"status": "timed_out"}, "ExecutionStatus = 'TimedOut'"),
        ({"agent": "o'neil\\"}, "PerdureAgent = 'o\\'neil\\\\'"),
        (
            {"state": "waiting_limit", "model": "x:y", "tenant": "t", "min_cost_usd": 0.00001},
            "PerdureState = 'waiting_limit' AND PerdureModel = 'x:y' AND PerdureTenant = 't' "
            "AND PerdureCostUsd >= 0.000010000000",
        ),
        (
            {"status": "failed", "agent": "a", "extra": "x = 1 OR y = 2"},
            "ExecutionStatus = 'Failed' AND PerdureAgent = 'a' AND (x = 1 OR y = 2)",
        ),
    ],
)
def test_filters_hold_together(filters: dict[str, Any], query: str) -> None:
    assert list_query(**filters) == query


@pytest.mark.parametrize("status", ["paused", "runing"])
def test_a_status_that_can_not_be_asked_for(status: str) -> None:
    with pytest.raises(InvalidInputError, match=f"by status '{status}'"):
        list_query(status=status, agent=None, extra=None)


def test_a_state_that_no_run_has_gets_a_suggestion() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'waiting_limit'"):
        list_query(state="wating_limit")


def test_names_in_queries_are_quoted() -> None:
    assert quoted_queue("a'b\\c") == "a\\'b\\\\c"


def test_a_query_that_the_server_refuses_names_the_remedy() -> None:
    refused = RPCStatusCode.INVALID_ARGUMENT
    lacking = _query_error(rpc_error(refused, "no search attribute PerdureAgent"), "q")
    assert isinstance(lacking, InvalidInputError)
    assert "perdure doctor --fix" in lacking.message
    other = _query_error(rpc_error(refused, "syntax"), "q")
    assert "doctor" not in str(other)
    down = rpc_error(RPCStatusCode.UNAVAILABLE)
    assert _query_error(down, "q") is down


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (rpc_error(RPCStatusCode.NOT_FOUND), "There is no run 'w'"),
        (rpc_error(RPCStatusCode.INVALID_ARGUMENT, "WorkflowId is not set on request."), "There is no run 'w'"),
        (rpc_error(RPCStatusCode.INVALID_ARGUMENT, "Invalid RunId."), "There is no run 'w'"),
        (rpc_error(RPCStatusCode.NOT_FOUND, "workflow execution already completed"), "The run 'w' is closed"),
    ],
)
def test_a_run_that_is_not_there(error: RPCError, said: str) -> None:
    found = not_found(error, "w")
    assert isinstance(found, RunNotFoundError)
    assert found.message.startswith(said)


def test_what_a_run_is_given_may_be_at_fault() -> None:
    """So of a run that has had 10,000 signals."""
    full = rpc_error(RPCStatusCode.INVALID_ARGUMENT, "exceeded workflow execution limit for signal events")
    found = not_found(full, "w")
    assert isinstance(found, InvalidInputError)
    assert found.message == f"Temporal can't do that with run 'w': {full.message}."


def test_any_other_fault_of_the_server_is_itself() -> None:
    down = rpc_error(RPCStatusCode.UNAVAILABLE)
    assert not_found(down, "w") is down


class Theirs(Exception):
    """A failure that is no ApplicationError."""


LIMIT = ApplicationError("reached", {"limit": "max_turns=3"}, type="LimitExceeded", non_retryable=True)
TIMED_OUT = TimeoutError("late", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    [
        (CancelledError("x"), RunCancelled, "The run 'w' was cancelled."),
        (TerminatedError("by hand"), RunTerminated, "The run 'w' was terminated: by hand."),
        (TIMED_OUT, RunTerminated, "The run 'w' did not end within its time."),
        (LIMIT, LimitExceeded, "reached"),
        (ApplicationError("boom", type="ValueError"), RunError, "ValueError: boom"),
        (ApplicationError("boom"), RunError, "ApplicationError: boom"),
        (Theirs("boom"), RunError, "Theirs: boom"),
    ],
)
def test_how_a_run_ended_is_typed(cause: BaseException, kind: type[PerdureError], said: str) -> None:
    error = to_run_error("w", WorkflowFailureError(cause=cause))
    assert type(error) is kind
    assert error.message == said
    assert error.attributes.get("limit") == ("max_turns=3" if cause is LIMIT else None)


async def pending(info: PendingActivityInfo) -> Any:
    client: Client = CLIENT
    return await _pending(info, client)


async def test_a_call_in_flight_shows_its_progress() -> None:
    info = PendingActivityInfo(activity_id="1", attempt=2, last_worker_identity="me", state=2)  # pyright: ignore
    info.activity_type.name = "perdure.call_model"
    info.heartbeat_details.payloads.append(encoded(Progress(tries=1, text="so far")))
    info.next_attempt_schedule_time.FromJsonString("2026-01-02T03:04:05Z")
    call = await pending(info)
    assert (call.activity, call.attempt, call.is_started, call.worker) == ("perdure.call_model", 2, True, "me")
    assert call.progress == Progress(tries=1, text="so far")
    assert (call.next_attempt_at, call.last_failure) == (None, "")


async def test_a_call_that_waits_says_until_when_and_why() -> None:
    info = PendingActivityInfo(activity_id="1", state=1)  # pyright: ignore
    info.next_attempt_schedule_time.FromJsonString("2026-01-02T03:04:05Z")
    info.last_failure.message = "busy"
    call = await pending(info)
    assert call.next_attempt_at.year == 2026
    assert (call.attempt, call.is_started, call.last_failure, call.progress) == (1, False, "busy", None)


def test_ids_are_named_after_the_agent_and_unique() -> None:
    made = {_new_id("worker") for _ in range(100)}
    assert len(made) == 100
    assert all(each.startswith("worker-") for each in made)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n b", "a b"), ("x" * 100, "x" * 100), ("x" * 101, "x" * 99 + "…"), ("\n" * 9000 + "late", "")],
)
def test_a_summary_is_one_short_line(text: str, shown: str) -> None:
    assert one_line(text) == shown
