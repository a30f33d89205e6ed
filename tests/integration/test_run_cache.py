"""`@tool(cache="run")` on a real server: identical calls of a run are made once, over Continue-As-New too."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client

from perdure import Agent, App, Limits, tool
from perdure.connection import connect
from perdure.contracts.messages import Message, ToolResultPart
from perdure.devserver import DevServer
from perdure.testing import ScriptedModel, calls
from tests.support.workers import worker

TIME = timedelta(seconds=30)
PAGE = "x" * 20_000
made: Counter[str] = Counter()


@tool(idempotent=True, cache="run")
async def read(page: int) -> str:
    """Read a page."""
    made[f"read {page}"] += 1
    return f"{page} {PAGE}"


@tool(idempotent=True, cache="run", local=True, max_attempts=1)
def fail(reason: str) -> str:
    """Fail."""
    made[f"fail {reason}"] += 1
    raise ValueError(reason)


def make_app(script: list[Any], **limits: Any) -> App:
    agent = Agent("reader", model="scripted:x", tools=[read, fail], limits=Limits(**limits))
    return App(agents=[agent], providers=[ScriptedModel(script)])


def _texts(message: Message) -> list[str]:
    return [part.content[0].text for part in message.parts if isinstance(part, ToolResultPart)]  # pyright: ignore


async def test_identical_calls_are_made_once_and_recorded_once(temporal: Client) -> None:
    made.clear()
    twice = calls(*[("read", {"page": 1})] * 5, ("read", {"page": 2}))
    app = make_app([twice, calls(("read", {"page": 1})), "done"])
    async with worker(app, temporal) as client:
        run = await client.start_agent("reader", "go")
        result = await client.result(run.workflow_id, timeout=TIME)
        shown = await client.show(run.workflow_id)
        told = [text for entry in await client.transcript(run.workflow_id) for text in _texts(entry.message)]
    assert made == {"read 1": 1, "read 2": 1}
    assert [text[0] for text in told] == ["1", "1", "1", "1", "1", "2", "1"]
    assert {len(text) for text in told} == {len(PAGE) + 2}
    assert (result.counters.tool_calls, result.counters.saved_tool_calls) == (7, 5)
    assert shown.counters.saved_tool_calls == 5
    assert shown.info.history_bytes < 4 * len(PAGE)
    scripted = app.providers[0]
    assert isinstance(scripted, ScriptedModel)
    prompt = sum(len(fragment.body) for fragment in scripted.requests[-1].fragments)
    assert prompt > 7 * len(PAGE), "the model is given the whole result each time"


async def test_a_failure_is_shared_by_its_turn_and_not_kept(temporal: Client) -> None:
    made.clear()
    once = calls(("fail", {"reason": "no"}), ("fail", {"reason": "no"}))
    async with worker(make_app([once, once, "done"]), temporal) as client:
        run = await client.start_agent("reader", "go")
        result = await client.result(run.workflow_id, timeout=TIME)
    assert made == {"fail no": 2}
    assert result.counters.saved_tool_calls == 2


async def test_a_saved_call_counts_and_is_noticed_as_a_repetition(temporal: Client) -> None:
    app = make_app([calls(("read", {"page": 3}))] * 2 + ["done"], max_tool_calls=2, max_repeats=2)
    async with worker(app, temporal) as client:
        run = await client.start_agent("reader", "go")
        result = await client.result(run.workflow_id, timeout=TIME)
        texts = [entry.message.text for entry in await client.transcript(run.workflow_id)]
    assert result.limit == "max_tool_calls=2"
    assert any("called 2 times with the same arguments" in text for text in texts)


async def test_results_are_known_to_the_run_that_continues(tmp_path: Path) -> None:
    made.clear()
    config = {"limit.historyCount.suggestContinueAsNew": "40"}
    script = (
        [calls(("read", {"page": n % 3})) for n in range(20)]
        + [calls(("read", {"page": 100 + n})) for n in range(10)]
        + [calls(("read", {"page": 0})), "done"]
    )
    app = make_app(script, max_repeats=50)
    async with (
        DevServer(tmp_path, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server,
        worker(app, await connect(address=server.address)) as client,
    ):
        run = await client.start_agent("reader", "go")
        result = await client.result(run.workflow_id, timeout=TIME)
        shown = await client.show(run.workflow_id)
    assert set(made.values()) == {1}
    assert shown.info.run_id != run.run_id, "it continued as new"
    assert (result.counters.tool_calls, result.counters.saved_tool_calls) == (31, 18)
    assert shown.counters.saved_tool_calls == 18
