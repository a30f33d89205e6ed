"""Having a model choose an agent by the agents' descriptions. Activity side."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from perdure.activities._outputs import schema_faults
from perdure.agents.agent import Agent
from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.selection import Selection, SelectRequest
from perdure.contracts.spec import FINAL_OUTPUT_TOOL, OutputSpec
from perdure.contracts.usage import NO_USAGE, Price, Usage
from perdure.errors import ModelCallError, UnknownModelError
from perdure.providers.base import ModelReply, ModelRequest, Provider
from perdure.providers.registry import Providers

_MAX_ASKS = 3
"""Calls of the model, those that failed included."""
_PASSING = ("transient", "rate_limited")
_MAX_DESCRIPTION_CHARS = 500
_MAX_REASON_CHARS = 500
_MAX_OUTPUT_TOKENS = 2_000
_INSTRUCTIONS = (
    "Choose the agent that is best suited to the task, by what is said of each agent. Don't do the task. "
    "Answer with the agent's name and a short reason."
)


class NoChoice(Exception):
    """The model made none; the text says why."""

    def __init__(self, reason: str, usage: Usage = NO_USAGE) -> None:
        """Say why, and what it cost."""
        super().__init__(reason)
        self.usage = usage


class Chooser:
    """Asks models to choose.

    Args:
        providers: Where the models are.
        find_price: Returns the price of a model; None when it isn't known.
        redact: Takes the secrets out of a text.
        patience: For all calls together.
        pause: Between a call that failed and the next.
    """

    def __init__(
        self,
        *,
        providers: Providers,
        find_price: Callable[[str], Price | None],
        redact: Callable[[str], str],
        patience: timedelta = timedelta(minutes=1),
        pause: timedelta = timedelta(seconds=1),
    ) -> None:
        """Work with these."""
        self._providers = providers
        self._find_price = find_price
        self._redact = redact
        self._patience = patience
        self._pause = pause

    async def choose(self, request: SelectRequest, candidates: Sequence[Agent]) -> Selection:
        """Return the model's choice.

        Raises:
            NoChoice: The model could not be asked, or gave no usable answer in three asks.
        """
        name = request.model or candidates[0].models[0]
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                return await self._converse(name, request, candidates)
        except TimeoutError:
            seconds = self._patience.total_seconds()
            raise NoChoice(f"the model {name} did not answer within {seconds:g} s") from None

    async def _converse(self, name: str, request: SelectRequest, candidates: Sequence[Agent]) -> Selection:
        output = _output(candidates)
        conversation = [Message(role="user", parts=(TextPart(text=_question(request, candidates)),))]
        usage, problem = NO_USAGE, ""
        for ask in range(1, _MAX_ASKS + 1):
            try:
                reply = await self._ask(name, conversation, output)
            except (ModelCallError, UnknownModelError) as error:
                if ask < _MAX_ASKS and isinstance(error, ModelCallError) and error.kind in _PASSING:
                    await asyncio.sleep(self._pause.total_seconds())
                    continue
                reason = self._redact(error.message)
                raise NoChoice(f"the model {name} could not be asked ({reason[:300]})", usage) from None
            usage = usage + reply.usage.priced(self._find_price(name) if reply.is_usage_known else None)
            value, problem = _read(reply.message, output)
            if not problem:
                why = f"{name}: {value['reason'][:_MAX_REASON_CHARS]}"
                return Selection(agent=value["agent"], strategy="model", kind=request.kind, why=why, usage=usage)
            conversation += _objection(reply.message, problem)
        raise NoChoice(f"the model {name} gave no usable answer {_MAX_ASKS} times ({problem[:300]})", usage)

    async def _ask(self, name: str, conversation: Sequence[Message], output: OutputSpec) -> ModelReply:
        provider, model = self._providers.resolve(name)
        provider.check()
        request = ModelRequest(
            model=model,
            instructions=_INSTRUCTIONS,
            fragments=[_encode(provider, message) for message in conversation],
            output=output,
            settings=ModelSettings(timeout=self._patience),
            max_output_tokens=_MAX_OUTPUT_TOKENS,
        )
        return await provider.call(request, lambda _: None)


def _encode(provider: Provider, message: Message) -> Any:
    return provider.encode(message, lambda _: b"")  # there are no blobs in it


def _question(request: SelectRequest, candidates: Sequence[Agent]) -> str:
    wanted = f"\nWanted: {', '.join(request.tags)}" if request.tags else ""
    kind = f"\nKind: {request.kind}" if request.kind else ""
    listed = "\n".join(f"- {_describe(agent)}" for agent in candidates)
    return f"The agents:\n{listed}\n\nThe task:{kind}{wanted}\n{request.text}"


def _describe(agent: Agent) -> str:
    labels = ", ".join((*agent.tags, *agent.capabilities))
    said = agent.description[:_MAX_DESCRIPTION_CHARS] or "(no description)"
    return f"{agent.name}: {said}" + (f" [{labels}]" if labels else "")


def _output(candidates: Sequence[Agent]) -> OutputSpec:
    names = [agent.name for agent in candidates]
    return OutputSpec(
        name="Choice",
        parameters={
            "type": "object",
            "properties": {
                "agent": {"type": "string", "enum": names},
                "reason": {"type": "string", "description": "In a sentence."},
            },
            "required": ["agent", "reason"],
            "additionalProperties": False,
        },
    )


def _read(message: Message, output: OutputSpec) -> tuple[dict[str, Any], str]:
    """Return the choice, and what is wrong with it."""
    final = next((call for call in message.tool_calls if call.name == FINAL_OUTPUT_TOOL), None)
    try:
        value = json.loads(message.text if final is None else final.arguments)
    except (ValueError, RecursionError):
        return {}, "the answer must be one JSON object and nothing else"
    faults = schema_faults(output.parameters, value)
    return (value, "; ".join(faults[:5])) if faults else (value, "")


def _objection(message: Message, problem: str) -> list[Message]:
    """Return the reply as text, so that no call in it awaits its result, and what is wrong with it."""
    said = message.text or "".join(call.arguments for call in message.tool_calls) or "(nothing)"
    reply = Message(role="assistant", parts=(TextPart(text=said[:4000]),), stop="end")
    text = f"That can't be used: {problem}. Answer again."
    return [reply, Message(role="user", parts=(TextPart(text=text),))]
