"""A worker in a process of its own: `python -m bench.worker CONFIG_JSON`.

Of perdure, or of the bare and naive workflows with the options that perdure's worker has.
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.worker import Worker

from bench import children, floors
from bench.fake_llm import end_with_parent
from bench.texts import page_text
from bench.untold import leave_telemetry_out
from perdure import Agent, App, Compaction, Limits, ModelSettings, tool
from perdure.connection import connect
from perdure.providers._pacer import Cost, Pacer
from perdure.settings import ProviderTable, Settings
from perdure.testing import ScriptedModel
from perdure.worker import new_event_loop, run_worker, stop_on_signals

_SECOND = timedelta(seconds=1)


class WorkerConfig(BaseModel):
    """What a worker of the benchmark is told."""

    kind: Literal["perdure", "floor"]
    address: str
    queue: str
    base_url: str
    """The fake's, with `/v1`."""
    models: list[str] = []
    """Each is an agent of that name, too."""
    settings: dict[str, Any] = {}
    is_limited: bool = True
    """Whether calls keep to the vendor's rate limit; without, for comparison."""
    has_telemetry: bool = True
    """Whether perdure has any; without, for comparison."""
    makes_room: bool = True
    """Whether agents shorten what is said, where they come to continue as new with a large conversation."""


@tool
async def fetch(page: int, size: int) -> str:
    """Return a page of a text.

    Args:
        page: Its number.
        size: Its length.
    """
    return page_text(page, size)


@tool(name="fetch_local", idempotent=True, local=True)
async def fetch_local(page: int, size: int) -> str:
    """Return a page of a text.

    Args:
        page: Its number.
        size: Its length.
    """
    return page_text(page, size)


@tool(name="guarded", needs_approval=True)
async def guarded(page: int, size: int) -> str:
    """Return a page of a text, once a person has approved that.

    Args:
        page: Its number.
        size: Its length.
    """
    return page_text(page, size)


def make_app(models: list[str], *, makes_room: bool = True) -> App:
    """Return an app with an agent for each model, and `echo`, whose model answers at once, within the worker."""
    echo = ScriptedModel(lambda request, messages: f"done: {messages[0].text}", name="echo")
    agents = [Agent("echo", model="echo:x"), *(_agent(model, makes_room=makes_room) for model in models)]
    return App(agents=agents, providers=[echo])


_TOOLS = {"fetch_local": fetch_local, "guarded": guarded}


def _agent(model: str, *, makes_room: bool) -> Agent:
    return Agent(
        model,
        instructions="Fetch all pages, one after the other, then answer.",
        model=f"fake:{model}",
        tools=[_TOOLS.get(model.rpartition("-")[2], fetch)],
        limits=Limits(max_turns=2000),
        settings=ModelSettings(stall_timeout=timedelta(minutes=10)),
        compaction=Compaction() if makes_room else Compaction(by=()),
    )


async def _serve_perdure(config: WorkerConfig, settings: Settings, client: Client, stop: asyncio.Event) -> None:
    settings = settings.model_copy(
        update={"providers": {"fake": ProviderTable(protocol="openai", base_url=config.base_url)}}
    )
    if not config.is_limited:
        Pacer.wait = _no_wait
    if not config.has_telemetry:
        leave_telemetry_out()
    await run_worker(
        make_app(config.models, makes_room=config.makes_room), settings, client, stop=stop, on_ready=_say_ready
    )


async def _serve_floor(config: WorkerConfig, settings: Settings, client: Client, stop: asyncio.Event) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=None, limits=limits) as http:
        naive = floors.NaiveActivities(config.base_url, http)
        worker = Worker(
            client,
            task_queue=settings.task_queue,
            workflows=[*floors.WORKFLOWS, *children.WORKFLOWS],
            activities=[floors.empty, naive.ask, naive.fetch],
            max_cached_workflows=settings.max_cached_workflows,
            max_concurrent_workflow_tasks=settings.max_concurrent_workflow_tasks,
            max_concurrent_activities=settings.max_concurrent_activities,
            sticky_queue_schedule_to_start_timeout=_SECOND,
            max_heartbeat_throttle_interval=_SECOND,
            default_heartbeat_throttle_interval=_SECOND,
        )
        async with worker:
            _say_ready()
            await stop.wait()


def _no_wait(self: Pacer, cost: Cost, behind: Cost | None = None) -> float:
    return 0.0


def _say_ready() -> None:
    print("ready", flush=True)


async def _serve(config: WorkerConfig) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    settings = Settings.model_validate({"task_queue": config.queue, "project_dir": Path.cwd(), **config.settings})
    client = await connect(address=config.address)
    serve = _serve_perdure if config.kind == "perdure" else _serve_floor
    await serve(config, settings, client, stop)


if __name__ == "__main__":
    end_with_parent()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(WorkerConfig.model_validate_json(sys.argv[1])))
