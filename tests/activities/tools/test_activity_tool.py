"""`activity_tool`: an existing activity answers a call, as a worker would have it do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from perdure.errors import InvalidToolError, ToolError
from perdure.tools import activity_tool
from tests.activities.conftest import MakeRig
from tests.activities.test_tools import Calling, told


class Order(BaseModel):
    sku: str
    count: int = 1


@dataclass
class Receipt:
    id: str
    total: int


@activity.defn
async def place_order(order: Order, note: str | None = None) -> Receipt:
    """Order something.

    Args:
        order: What.
        note: For the shop.
    """
    info = activity.info()
    activity.heartbeat("half-way")
    assert isinstance(order, Order)
    assert info.heartbeat_details == []
    return Receipt(f"{info.activity_type}:{info.workflow_id}", order.count * 10)


@activity.defn(name="stock_of")
def look_up_stock(sku: str) -> int:
    """Count."""
    activity.heartbeat()
    activity.logger.info("looked")
    return len(sku) if not activity.is_cancelled() else 0


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @activity.defn
    async def greet(self, who: str) -> str:
        return f"{self.name} greets {who}"


def failing(error: BaseException) -> Any:
    @activity.defn(name="failing")
    async def fails() -> None:
        raise error

    return fails


@activity.defn
async def completes_later() -> None:
    activity.raise_complete_async()


@activity.defn(dynamic=True)
async def dynamic(args: Sequence[RawValue]) -> None: ...


@pytest.fixture
def call(make_rig: MakeRig) -> Calling:
    return Calling(make_rig)


async def test_arguments_and_result_have_their_types(call: Calling) -> None:
    tool = activity_tool(place_order)
    assert tool.spec.description == "Order something."
    assert tool.spec.parameters["required"] == ["order"]
    result = await call(tool, '{"order": {"sku": "a", "count": 2}}')
    assert told(result) == ("ok", '{"id":"place_order:wf","total":20}')
    assert call.rig is not None
    assert call.rig.beats == [], "perdure beats, and nobody else"


async def test_a_plain_function_and_a_method(call: Calling) -> None:
    assert told(await call(activity_tool(look_up_stock), '{"sku": "abc"}')) == ("ok", "3")
    assert activity_tool(look_up_stock).name == "stock_of"
    assert told(await call(activity_tool(Shop("Ada's").greet), '{"who": "Bo"}')) == ("ok", "Ada's greets Bo")


async def test_arguments_are_checked(call: Calling) -> None:
    outcome, text = told(await call(activity_tool(place_order), '{"order": {}}'))
    assert outcome == "error"
    assert "order.sku: Field required" in text


async def test_details_of_an_earlier_attempt_are_not_shown(call: Calling) -> None:
    result = await call(activity_tool(place_order, idempotent=True), '{"order": {"sku": "a"}}', tries=1)
    assert told(result)[0] == "ok"


async def test_what_the_error_says_about_retries_holds(call: Calling) -> None:
    final = failing(ApplicationError("no such sku", type="NotThere", non_retryable=True))
    assert told(await call(activity_tool(final, idempotent=True))) == ("error", "failing: NotThere: no such sku")
    later = failing(ApplicationError("busy", next_retry_delay=timedelta(seconds=77)))
    with pytest.raises(ToolError) as caught:
        await call(activity_tool(later, idempotent=True))
    assert caught.value.next_retry_delay == timedelta(seconds=77)
    assert not caught.value.non_retryable
    assert told(await call(activity_tool(later))) == ("error", "failing: busy")


async def test_asynchronous_completion_is_an_unknown_outcome(call: Calling) -> None:
    outcome, text = told(await call(activity_tool(completes_later)))
    assert outcome == "unknown"
    assert "completes asynchronously" in text


@pytest.mark.parametrize("function", [lambda: None, dynamic, Shop("x")], ids=["no activity", "dynamic", "object"])
def test_what_is_no_activity_is_refused(function: Any) -> None:
    with pytest.raises(InvalidToolError):
        activity_tool(function)


def test_two_agents_may_have_it() -> None:
    assert activity_tool(place_order).is_same(activity_tool(place_order))
