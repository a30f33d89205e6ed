"""`@tool(cache="shared")` on a real server: one execution in the cluster, and nothing waits in vain."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from perdure import Agent, App, Limits, ModelSettings, ToolContext, tool
from perdure.agents.tool import Tool
from perdure.client import PerdureClient
from perdure.contracts.messages import ToolResultPart
from perdure.contracts.money import MoneyStatus
from perdure.contracts.run import RunResult
from perdure.errors import ModelCallError, ModelUnavailable, SettingsError
from perdure.plugin import PerdurePlugin
from perdure.settings import Settings
from perdure.testing import ScriptedModel, calls
from tests.support.shared_app import SECONDS
from tests.support.workers import WorkerProcess, worker

TIME = timedelta(seconds=60)
RUNS = 20
made: Counter[str] = Counter()


async def _run(client: PerdureClient, delay: float, **options: Any) -> tuple[RunResult, float]:
    await asyncio.sleep(delay)
    begun = time.monotonic()
    run = await client.start_agent("surveyor", "go", **options)
    return await client.result(run.workflow_id, timeout=TIME), time.monotonic() - begun


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


async def _wait_for_lines(log: Path, count: int) -> list[str]:
    deadline = time.monotonic() + 20
    while True:
        lines = _lines(log)
        if len(lines) >= count:
            return lines
        assert time.monotonic() < deadline, lines
        await asyncio.sleep(0.02)


async def test_one_execution_also_when_its_worker_is_killed(temporal: Client, tmp_path: Path) -> None:
    """20 runs that ask the same, with 4 slots in two workers, arriving over 3 times the call's duration."""
    log, queue = tmp_path / "log", f"shared-{tmp_path.name}"
    options: dict[str, Any] = {"max_concurrent_activities": 2, "heartbeat_timeout_seconds": 1}
    address, env = temporal.service_client.config.target_host, {"SHARED_LOG": str(log)}
    make = [WorkerProcess(address, queue, "tests.support.shared_app:app", env=env, **options) for _ in range(2)]
    client = PerdureClient(temporal, task_queue=queue)
    async with make[0], make[1]:
        ended = asyncio.gather(*(_run(client, 3 * SECONDS * n / RUNS) for n in range(RUNS)))
        (begun,) = await _wait_for_lines(log, 1)
        await next(each for each in make if str(each.pid) == begun.split()[1]).kill()
        results = await ended
    lines = [line.split() for line in _lines(log)]
    assert [kind for kind, _, _ in lines] == ["begun", "begun", "done"], "killed in the middle, and made again"
    assert len({pid for _, pid, _ in lines}) == 2
    assert len({key for _, _, key in lines}) == 1
    saved = [result.counters.saved_tool_calls for result, _ in results]
    assert sorted(saved) == [0] + [1] * (RUNS - 1)
    longest = max(seconds for _, seconds in results)
    print(f"longest run: {longest:.1f} s")
    assert longest < 30


def make_tool(description: str = "Survey.") -> Tool:
    @tool(name="survey", description=description, idempotent=True, cache="shared", ttl=timedelta(hours=1))
    async def survey(area: str, ctx: ToolContext) -> str:
        made[area] += 1
        number = made[area]
        await asyncio.sleep(0.3)
        if area.startswith("bad"):
            raise ValueError(f"no way, {number}")
        return f"{area} {number} {ctx.context.get('team')}"

    return survey


def make_app(area: str, survey: Tool | None = None) -> App:
    script = [calls(*[("survey", {"area": area})] * 2), "done"]
    agent = Agent("surveyor", model="scripted:x", tools=[survey or make_tool()])
    return App(agents=[agent], providers=[ScriptedModel(script)])


async def _told(client: PerdureClient, **options: Any) -> tuple[str, int]:
    """Run the agent; return what the tool said, and how many calls were saved."""
    run = await client.start_agent("surveyor", "go", **options)
    await client.result(run.workflow_id, timeout=TIME)
    entries = await client.transcript(run.workflow_id)
    texts = [
        "".join(each.text for each in part.content)  # pyright: ignore
        for entry in entries
        for part in entry.message.parts
        if isinstance(part, ToolResultPart)
    ]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    return texts[0], (await client.show(run.workflow_id)).counters.saved_tool_calls


async def test_who_shares_with_whom(temporal: Client) -> None:
    async with worker(make_app("east"), temporal) as client:
        assert await _told(client) == ("east 1 None", 1)
        assert await _told(client) == ("east 1 None", 2), "another run shares"
        assert await _told(client, tenant="acme") == ("east 2 None", 1), "another tenant doesn't"
        assert await _told(client, context={"team": "a"}) == ("east 3 a", 1), "nor does another context"
    async with worker(make_app("east", make_tool("Survey well.")), temporal) as client:
        assert await _told(client) == ("east 4 None", 1), "nor does another version of the tool"
    async with worker(make_app("east"), temporal, cache_scope="staging") as client:
        assert await _told(client) == ("east 5 None", 1), "nor do workers with other credentials"


async def test_a_failure_is_told_to_all_who_waited_and_is_not_kept(temporal: Client) -> None:
    async with worker(make_app("bad"), temporal) as client:
        together = await asyncio.gather(*(_told(client) for _ in range(3)))
        count = made["bad"]
        again = await _told(client)
    assert {text for text, _ in together} == {f"survey failed: ValueError: no way, {count}"}
    assert count == 3, "one execution, of three attempts"
    assert again[0] == "survey failed: ValueError: no way, 6"


async def test_a_worker_of_the_users_own_shares_too(temporal: Client) -> None:
    plugin = PerdurePlugin(make_app("west"), Settings(project_dir=Path("/tmp")))
    config = {**temporal.config(), "plugins": [plugin]}
    client = PerdureClient(Client(**config), task_queue="own-queue")  # pyright: ignore
    async with Worker(client.temporal, task_queue="own-queue"):
        assert await _told(client) == ("west 1 None", 1)


async def test_a_ttl_that_the_server_cannot_keep_is_refused_at_the_start(temporal: Client) -> None:
    @tool(idempotent=True, cache="shared", ttl=timedelta(days=3000))
    def ask() -> str:
        """Ask."""
        return ""

    with pytest.raises(SettingsError, match="'ask': its ttl is 3000 days"):
        async with worker(App(agents=[], tools=[ask]), temporal):
            pass


def make_model_app(
    asked: list[Any], *, answer: Any = "42", instructions: str = "Think.", seconds: float = 0.3
) -> App:
    def reply(request: Any, messages: Any) -> Any:
        asked.append(request)
        return answer(len(asked)) if callable(answer) else answer

    settings = ModelSettings(cache="shared", temperature=0)
    agent = Agent("surveyor", model="scripted:x", settings=settings, instructions=instructions)
    model = ScriptedModel(reply, delay_seconds=seconds)
    return App(agents=[agent], providers=[model])


async def test_a_model_is_asked_once_for_the_same_prompt(temporal: Client) -> None:
    asked: list[Any] = []
    async with worker(make_model_app(asked), temporal) as client:
        ended = await asyncio.gather(*(_run(client, 0) for _ in range(5)))
        await _run(client, 0, tenant="acme")
        other = await client.start_agent("surveyor", "go on")
        await client.result(other.workflow_id, timeout=TIME)
    async with worker(make_model_app(asked, instructions="Think well."), temporal) as client:
        await _run(client, 0)
    assert len(asked) == 4, "the first, another tenant, another input, other instructions"
    counters = [result.counters for result, _ in ended]
    assert sorted(each.saved_model_calls for each in counters) == [0, 1, 1, 1, 1]
    for each in counters:
        used, saved = each.usage.total_tokens, each.saved_usage.total_tokens
        assert (used == 0) == (saved > 0)
    assert [result.output for result, _ in ended] == ["42"] * 5


async def test_a_model_that_fails_for_good_fails_for_all_who_waited(temporal: Client) -> None:
    asked: list[Any] = []
    answer = ModelCallError("the vendor said no", kind="fatal", status_code=401)
    async with worker(make_model_app(asked, answer=answer, instructions="Fail."), temporal) as client:
        ended = await asyncio.gather(*(_run(client, 0) for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in ended if "the vendor said no" not in str(each)] == []
    assert all(isinstance(each, ModelUnavailable) for each in ended)
    assert len(asked) == 1


async def test_a_run_under_a_limit_takes_what_others_paid_for(temporal: Client) -> None:
    """It begins no shared call itself; what it had to pay for, later runs find, with a limit and without."""
    asked: list[Any] = []
    limited: dict[str, Any] = {"limits": Limits(max_total_tokens=30_000)}
    async with worker(make_model_app(asked, instructions="Limited."), temporal) as client:
        first, _ = await _run(client, 0, **limited)
        later = [
            (await _run(client, 0, id=f"later-{number}", **each))[0] for number, each in enumerate((limited, {}))
        ]
        status = MoneyStatus.model_validate(await client.query("later-0", "perdure.money"))
        await _run(client, 0, tenant="acme", **limited)
    assert len(asked) == 2, "the first, and the other tenant"
    assert [each.output for each in (first, *later)] == ["42"] * 3
    assert [each.counters.saved_model_calls for each in (first, *later)] == [0, 1, 1]
    assert (status.spent.tokens, status.spent.model_calls) == (0, 1)


async def test_a_run_under_a_limit_waits_for_a_call_that_another_makes(temporal: Client) -> None:
    """For longer than an attempt may, and free of charge."""
    asked: list[Any] = []
    limits = Limits(max_total_tokens=30_000)
    async with worker(make_model_app(asked, instructions="Slow.", seconds=4), temporal) as client:
        (one, _), (two, _) = await asyncio.gather(_run(client, 0), _run(client, 1, limits=limits))
    assert (one.counters.saved_model_calls, two.counters.saved_model_calls, len(asked)) == (0, 1, 1)


async def test_a_run_under_a_limit_asks_itself_where_the_call_of_another_fails(temporal: Client) -> None:
    asked: list[Any] = []

    def answer(number: int) -> Any:
        return ModelCallError("no", kind="fatal", status_code=401) if number == 1 else "42"

    app = make_model_app(asked, answer=answer, instructions="Fails once.", seconds=3)
    async with worker(app, temporal) as client:
        failing = asyncio.create_task(_run(client, 0))
        made, _ = await _run(client, 1, limits=Limits(max_total_tokens=30_000))
        with pytest.raises(ModelUnavailable):
            await failing
    assert (made.output, made.counters.saved_model_calls, len(asked)) == ("42", 0, 2)


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_only_a_model_without_chance_can_be_cached(temperature: float | None) -> None:
    with pytest.raises(SettingsError, match="temperature=0"):
        Agent("a", model="x:y", settings=ModelSettings(cache="shared", temperature=temperature))
