"""Having a model choose an agent by the agents' descriptions. Activity side."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure.activities._outputs import schema_faults
from perdure.agents.agent import Agent
from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.selection import ChoiceBounds, Selection, SelectRequest
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
_FRAME_TOKENS = 1_000
"""What a vendor puts around instructions and output schema, at most."""
_MESSAGE_TOKENS = 64
_OBJECTIONS_TOKENS = 2_000
"""For what is said when it is asked again; where that is longer, it isn't."""
_INSTRUCTIONS = (
    "Choose the agent that is best suited to the task, by what is said of each agent. Don't do the task. "
    "Answer with the agent's name and a short reason."
)


class NoChoice(Exception):
    """The model made none; the text says why, and `told` what asking has taken."""

    def __init__(self, reason: str, told: dict[str, Any] | None = None) -> None:
        """Say why, and what it has taken, as fields of a `Selection`."""
        super().__init__(reason)
        self.told = told or {}


@dataclass
class _Tally:
    """What the calls of one choice have taken."""

    model: str
    price: Price | None
    usage: Usage = NO_USAGE
    asks: int = 0
    unsettled: int = 0

    def begin(self) -> None:
        self.asks += 1
        self.unsettled += 1  # until it is known

    def note(self, reply: ModelReply) -> None:
        is_known = reply.is_usage_known and reply.usage.total_tokens > 0
        self.unsettled -= is_known
        self.usage = self.usage + reply.usage.priced(self.price if is_known else None)

    def note_failure(self, *, may_be_billed: bool) -> None:
        self.unsettled -= not may_be_billed

    def told(self) -> dict[str, Any]:
        asked = {"model": self.model} if self.asks else {}
        return {"usage": self.usage, "asks": self.asks, "unsettled": self.unsettled, **asked}


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

    def quote(self, request: SelectRequest, candidates: Sequence[Agent]) -> ChoiceBounds:
        """Return what a choice can take at most.

        Raises:
            NoChoice: The model can't be asked.
        """
        name = _model_of(request, candidates)
        try:
            self._providers.resolve(name)
        except UnknownModelError as error:
            raise NoChoice(self._not_asked(name, error)) from None
        prompt = _prompt_tokens(_conversation(request, candidates), _output(candidates))
        return ChoiceBounds(
            model=name,
            price=self._find_price(name),
            asks=_MAX_ASKS,
            prompt_tokens=prompt + _OBJECTIONS_TOKENS,
            output_tokens=_MAX_OUTPUT_TOKENS,
        )

    async def choose(self, request: SelectRequest, candidates: Sequence[Agent]) -> Selection:
        """Return the model's choice, made within `request.bounds` where there are any.

        Raises:
            NoChoice: The model could not be asked, or gave no usable answer in three asks.
        """
        name = _model_of(request, candidates)
        tally = _Tally(name, self._find_price(name) if request.bounds is None else request.bounds.price)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                return await self._converse(name, request, candidates, tally)
        except TimeoutError:
            seconds = self._patience.total_seconds()
            raise NoChoice(f"the model {name} did not answer within {seconds:g} s", tally.told()) from None

    async def _converse(
        self, name: str, request: SelectRequest, candidates: Sequence[Agent], tally: _Tally
    ) -> Selection:
        output, bounds = _output(candidates), request.bounds
        conversation = _conversation(request, candidates)
        asks, problem = _MAX_ASKS if bounds is None else bounds.asks, ""
        for ask in range(1, asks + 1):
            if bounds is not None and _prompt_tokens(conversation, output) > bounds.prompt_tokens:
                raise NoChoice(f"the model {name} would be asked more than is reserved for", tally.told())
            tally.begin()
            try:
                reply = await self._ask(name, conversation, output)
            except (ModelCallError, UnknownModelError) as error:
                tally.note_failure(may_be_billed=isinstance(error, ModelCallError) and error.may_be_billed)
                if ask < asks and isinstance(error, ModelCallError) and error.kind in _PASSING:
                    await asyncio.sleep(self._pause.total_seconds())
                    continue
                raise NoChoice(self._not_asked(name, error), tally.told()) from None
            tally.note(reply)
            value, problem = _read(reply.message, output)
            if not problem:
                why = f"{name}: {value['reason'][:_MAX_REASON_CHARS]}"
                chosen = {"agent": value["agent"], "strategy": "model", "kind": request.kind, "why": why}
                return Selection.model_validate({**chosen, **tally.told()})
            conversation += _objection(reply.message, problem)
        times = f"{asks} times" if asks > 1 else "once"
        raise NoChoice(f"the model {name} gave no usable answer {times} ({problem[:300]})", tally.told())

    def _not_asked(self, name: str, error: ModelCallError | UnknownModelError) -> str:
        return f"the model {name} could not be asked ({self._redact(error.message)[:300]})"

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


def _model_of(request: SelectRequest, candidates: Sequence[Agent]) -> str:
    if request.bounds is not None:
        return request.bounds.model
    return request.model or candidates[0].models[0]


def _conversation(request: SelectRequest, candidates: Sequence[Agent]) -> list[Message]:
    return [Message(role="user", parts=(TextPart(text=_question(request, candidates)),))]


def _prompt_tokens(conversation: Sequence[Message], output: OutputSpec) -> int:
    """Return the most tokens that a prompt can be: a token stands for at least one byte."""
    said = sum(_MESSAGE_TOKENS + len(message.to_bytes()) for message in conversation)
    return _FRAME_TOKENS + len(_INSTRUCTIONS) + len(json.dumps(output.parameters)) + said


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
