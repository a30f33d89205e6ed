"""A worker whose vendor bills at random: `python -m bench.money_worker ADDRESS QUEUE BILLS FAULTS`.

The vendor writes each bill into the file BILLS when a call begins, as one would that is elsewhere: what becomes of
the call, or of the worker, changes nothing of it. FAULTS is the share of calls that are refused, cut or told
without usage.
"""

import asyncio
import random
import sys
from pathlib import Path

from bench.fake_llm import end_with_parent
from perdure import Agent, App, Limits, ModelSettings, tool
from perdure.connection import connect
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.usage import Usage
from perdure.errors import ModelCallError
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink
from perdure.settings import Settings
from perdure.testing import calls
from perdure.worker import new_event_loop, run_worker, stop_on_signals

INPUT_USD, OUTPUT_USD = 1, 4
OUTPUT_TOKENS = 1000
_DELAY_SECONDS = (0.02, 0.2)


@tool(idempotent=True, local=True)
def think(about: str) -> str:
    """Think."""
    return f"thought about {about}"


class RandomBiller:
    """Bills what it likes, within what a call may take."""

    name = "biller"
    protocol = "biller"

    def __init__(self, bills: Path, faults: float) -> None:
        """Write into `bills`."""
        self._bills = bills
        self._faults = faults
        self._chance = random.Random()

    def check(self) -> None:
        """Nothing is needed."""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return the message's own JSON."""
        return Fragment(message.role, message.to_bytes())

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Bill, and answer, or fail."""
        is_fault = self._chance.random() < self._faults
        kind = self._chance.choice(["busy", "cut", "untold"]) if is_fault else "ok"
        if kind == "busy":
            raise ModelCallError("busy", kind="rate_limited", retry_after_seconds=0.05)
        tree, _, part = Message.model_validate_json(request.fragments[0].body).text.partition(" ")
        assert request.max_output_tokens is not None, "a call without a bound"
        prompt, reply = _count(request), self._chance.randint(1, request.max_output_tokens)
        with self._bills.open("a") as bills:
            bills.write(f"{tree} {prompt * INPUT_USD + reply * OUTPUT_USD}\n")
        await asyncio.sleep(self._chance.uniform(*_DELAY_SECONDS))
        if kind == "cut":
            raise ModelCallError("cut", kind="transient", may_be_billed=True, retry_after_seconds=0.05)
        usage = Usage(input_tokens=prompt, output_tokens=reply)
        return ModelReply(message=_reply(request, tree, part), usage=usage, is_usage_known=kind != "untold")


def _count(request: ModelRequest) -> int:
    """Count a prompt's tokens: at random for each conversation, but always alike, as a tokenizer does."""
    ratio = random.Random(request.fragments[0].body).uniform(0.25, 1)
    return sum(int(len(each.body) * ratio) for each in request.fragments)


def _reply(request: ModelRequest, tree: str, part: str) -> Message:
    asked = sum(fragment.role == "assistant" for fragment in request.fragments)
    is_boss = request.instructions == "boss"
    if request.may_call_tools and is_boss and asked == 0:
        return calls(*[("member", {"input": f"{tree} {number}"}) for number in range(int(part))])
    if request.may_call_tools and not is_boss:
        return calls(("think", {"about": f"number {asked}"}))
    return Message(role="assistant", parts=(TextPart(text="that is all"),), stop="end")


def make_app(bills: Path, faults: float) -> App:
    """Return a boss that calls as many members at once as it is told, each of which never has enough."""
    settings = ModelSettings(max_output_tokens=OUTPUT_TOKENS, max_attempts=20)
    limits = Limits(max_turns=100_000, max_consecutive_errors=1000)
    member = Agent(
        "member", model="biller:x", tools=[think], description="Thinks.", limits=limits, settings=settings
    )
    boss = Agent(
        "boss",
        model="biller:x",
        instructions="boss",
        tools=[member.as_tool()],
        limits=Limits(max_parallel_tool_calls=100),
        settings=settings,
    )
    return App(agents=[boss, member], providers=[RandomBiller(bills, faults)])


async def _serve(address: str, queue: str, bills: str, faults: str) -> None:
    settings = Settings.model_validate(
        {
            "task_queue": queue,
            "project_dir": Path(bills).parent,
            "heartbeat_timeout_seconds": 1,
            "prices": {"biller:x": {"input_usd": INPUT_USD, "output_usd": OUTPUT_USD}},
        }
    )
    client = await connect(address=address)
    stop = asyncio.Event()
    stop_on_signals(stop)
    app = make_app(Path(bills), float(faults))
    await run_worker(app, settings, client, stop=stop, on_ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    end_with_parent()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(*sys.argv[1:]))
