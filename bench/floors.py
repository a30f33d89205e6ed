"""What perdure is measured against, on the same server: bare workflows, and the naive loop.

The bare ones do nothing in as many activities as an agent's run has; no design can be quicker. The naive loop is
what most people write first: the whole list of messages is the input of each model call.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from bench.texts import page_text

_MINUTE = timedelta(minutes=1)
_ONCE = RetryPolicy(maximum_attempts=1)


@activity.defn(name="bench.empty")
async def empty() -> None: ...


@workflow.defn(name="BareWorkflow", sandboxed=False)
class BareWorkflow:
    """`turns` turns of two empty activities, and one for the answer."""

    @workflow.run
    async def run(self, turns: int, is_local: bool) -> None:
        """Take the turns; with `is_local`, the second activity of each is a local one."""
        for _ in range(turns):
            await workflow.execute_activity(empty, start_to_close_timeout=_MINUTE)
            if is_local:
                await workflow.execute_local_activity(empty, start_to_close_timeout=_MINUTE)
            else:
                await workflow.execute_activity(empty, start_to_close_timeout=_MINUTE)
        await workflow.execute_activity(empty, start_to_close_timeout=_MINUTE)


Json = dict[str, Any]


@dataclass(frozen=True)
class NaiveCall:
    """What the naive loop gives to its model activity: everything."""

    model: str
    messages: list[Json]


@dataclass
class NaiveActivities:
    """The model and the tool of the naive loop."""

    base_url: str
    http: httpx.AsyncClient

    @activity.defn(name="bench.naive_model")
    async def ask(self, call: NaiveCall) -> Json:
        """Ask the model for the next message."""
        tools = [{"type": "function", "function": {"name": "fetch", "parameters": {"type": "object"}}}]
        body = {"model": call.model, "tools": tools, "messages": call.messages}
        response = await self.http.post(f"{self.base_url}/chat/completions", json=body)
        response.raise_for_status()
        message: Json = response.json()["choices"][0]["message"]
        return message

    @activity.defn(name="bench.naive_tool")
    async def fetch(self, page: int, size: int) -> str:
        """Return a page."""
        return page_text(page, size)


@workflow.defn(name="NaiveWorkflow", sandboxed=False)
class NaiveWorkflow:
    """The loop that passes the message list along."""

    @workflow.run
    async def run(self, model: str, text: str) -> str:
        """Work until the model answers with text."""
        messages: list[Json] = [{"role": "user", "content": text}]
        while True:
            reply: Json = await workflow.execute_activity_method(
                NaiveActivities.ask,
                NaiveCall(model, messages),
                start_to_close_timeout=10 * _MINUTE,
                retry_policy=_ONCE,
            )
            messages.append(reply)
            if not reply.get("tool_calls"):
                return str(reply["content"])
            for call in reply["tool_calls"]:
                messages.append(await self._run_tool(call))

    async def _run_tool(self, call: Json) -> Json:
        arguments: Json = json.loads(call["function"]["arguments"])
        text = await workflow.execute_activity_method(
            NaiveActivities.fetch,
            args=[arguments["page"], arguments["size"]],
            start_to_close_timeout=_MINUTE,
            retry_policy=_ONCE,
        )
        return {"role": "tool", "tool_call_id": call["id"], "content": text}


WORKFLOWS: Sequence[type] = (BareWorkflow, NaiveWorkflow)
