"""Ids of shared calls, and servers that know no standalone activities."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from perdure import Agent, ModelSettings, tool
from perdure.activities._sharing import SharedCall, Sharing
from perdure.contracts.calls import CallToolRequest
from perdure.contracts.messages import ToolCallPart, tool_message
from perdure.workflows._decisions import is_ok
from tests.activities.rig import Rig

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class OldServer:
    """Answers as a server does that lacks the call."""

    def __init__(self, status: RPCStatusCode = RPCStatusCode.UNIMPLEMENTED) -> None:
        self.status = status
        self.asked = 0

    async def start_activity(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        raise RPCError("unknown method StartActivityExecution", self.status, b"")

    def get_activity_handle(self, *_: Any, **__: Any) -> "OldServer":
        return self

    async def result(self) -> None:
        await self.start_activity()


def call(*parts: Any, ttl: timedelta = timedelta(hours=1)) -> SharedCall[str]:
    second = timedelta(seconds=1)
    return SharedCall(
        name="look",
        activity="a",
        parts=parts,
        ttl=ttl,
        result_type=str,
        timeout=second,
        total=second,
        max_attempts=1,
        summary="",
    )


def test_an_id_is_a_promise() -> None:
    """Another id for the same call means that every result of the past is lost: `_FORMAT` says so."""
    assert Sharing().call_id(call("a", 1), NOW) == "perdure-look-7916862cd134c0f48a13ba36a53fbc20995f8492"


def test_an_id_holds_for_a_ttl() -> None:
    ids = [Sharing().call_id(call("a"), NOW + timedelta(minutes=n)) for n in range(120)]
    assert len(set(ids)) == 3
    assert max(ids.count(each) for each in ids) == 60
    others = [Sharing().call_id(call("b"), NOW + timedelta(minutes=n)) for n in range(120)]
    assert ids.index(ids[-1]) != others.index(others[-1]), "not all results become old at once"


def test_what_makes_another_id() -> None:
    ids = {
        Sharing().call_id(call("a"), NOW),
        Sharing().call_id(call("a", ""), NOW),
        Sharing().call_id(call("a", ttl=timedelta(hours=2)), NOW),
        Sharing("scope").call_id(call("a"), NOW),
    }
    assert len(ids) == 4


@tool(idempotent=True, cache="shared", ttl=timedelta(hours=1))
def look(number: int) -> str:
    """Look."""
    return f"page {number}"


async def test_without_standalone_activities_every_run_makes_its_own_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig, server = Rig(tmp_path, [Agent("worker", model="offline:reader", tools=[look])]), OldServer()
    spec = await rig.pin()
    request = CallToolRequest(
        spec=spec.digest, call_slot=1, slot=2, key="k", name="look", arguments='{"number": 1}', call_id="1"
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result = await rig.environment(client=server).run(rig.call_tool, request)
            assert not result.is_saved
            assert result.message == tool_message(ToolCallPart(id="1", name="look"), "page 1")
    assert server.asked == 1
    assert caplog.text.count("no standalone activities") == 1


async def test_a_server_that_is_away_is_asked_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, [Agent("worker", model="offline:reader", tools=[look])])
    spec = await rig.pin()
    request = CallToolRequest(
        spec=spec.digest, call_slot=1, slot=2, key="k", name="look", arguments='{"number": 1}', call_id="1"
    )
    with pytest.raises(ApplicationError) as caught:
        await rig.environment(client=OldServer(RPCStatusCode.UNAVAILABLE)).run(rig.call_tool, request)
    assert _is_asked_again(caught.value)


def _is_asked_again(error: ApplicationError) -> bool:
    assert error.type == "SharedCallUnavailable"
    return not error.non_retryable and error.next_retry_delay is not None


@pytest.mark.parametrize("status", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED])
async def test_a_model_call_outlasts_a_server_that_is_away(tmp_path: Path, status: RPCStatusCode) -> None:
    settings = ModelSettings(cache="shared", temperature=0)
    rig = Rig(tmp_path, [Agent("worker", model="offline:reader", settings=settings)])
    with pytest.raises(ApplicationError) as caught:
        await rig.ask(await rig.pin(), client=OldServer(status))
    assert _is_asked_again(caught.value)


@pytest.mark.parametrize("status", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED])
async def test_a_call_under_a_limit_outlasts_a_server_that_is_away(tmp_path: Path, status: RPCStatusCode) -> None:
    settings = ModelSettings(cache="shared", temperature=0)
    rig, server = Rig(tmp_path, [Agent("worker", model="offline:reader", settings=settings)]), OldServer(status)
    with pytest.raises(ApplicationError) as caught:
        await rig.ask(await rig.pin(), client=server, is_metered=True)
    assert _is_asked_again(caught.value)
    assert server.asked == 1
    assert [each.unbilled for each in rig.beats] == [1], "the next attempt may use the reservation"


async def test_an_execution_that_the_server_forgot_is_started_anew(tmp_path: Path) -> None:
    settings = ModelSettings(cache="shared", temperature=0)
    rig = Rig(tmp_path, [Agent("worker", model="offline:reader", settings=settings)])
    spec = await rig.pin()
    for status, joined in ((RPCStatusCode.UNAVAILABLE, []), (RPCStatusCode.NOT_FOUND, [""])):
        rig.beats.clear()
        with pytest.raises(ApplicationError) as caught:
            await rig.ask(spec, client=OldServer(status), joined="r1")
        assert _is_asked_again(caught.value)
        assert [each.joined for each in rig.beats] == joined


async def test_invalid_arguments_start_nothing(tmp_path: Path) -> None:
    rig, server = Rig(tmp_path, [Agent("worker", model="offline:reader", tools=[look])]), OldServer()
    spec = await rig.pin()
    request = CallToolRequest(
        spec=spec.digest, call_slot=1, slot=2, key="k", name="look", arguments='{"number": "x"}', call_id="1"
    )
    result = await rig.environment(client=server).run(rig.call_tool, request)
    assert not is_ok(result.message)
    assert server.asked == 0
