"""A vendor that bills, for tests of limits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from perdure import tool
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.usage import Usage
from perdure.errors import ModelCallError
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink
from perdure.testing import calls


@tool(idempotent=True, local=True)
def think(about: str) -> str:
    """Think."""
    return f"thought about {about}"


@dataclass
class Biller:
    """A vendor that counts tokens and bills each call that reached it, whatever became of the call."""

    next_end: Callable[[int], str] = lambda number: "ok"
    turns: int = 1000
    output_share: float = 0.5
    delay_seconds: float = 0
    name: str = "biller"
    protocol: str = "biller"
    billed_tokens: int = 0
    requests: list[ModelRequest] = field(default_factory=list[ModelRequest])
    told: list[Usage] = field(default_factory=list[Usage])
    """What answered calls said that they used."""

    def check(self) -> None:
        """Nothing is needed."""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        return Fragment(message.role, message.to_bytes())

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        self.requests.append(request)
        end = self.next_end(len(self.requests))
        if end == "busy":
            raise ModelCallError("busy", kind="rate_limited", retry_after_seconds=0.01)
        assert request.max_output_tokens is not None, "a call without a bound"
        prompt = 200 + sum(len(each.body) for each in request.fragments) // 3
        usage = Usage(input_tokens=prompt, output_tokens=int(request.max_output_tokens * self.output_share))
        self.billed_tokens += usage.total_tokens
        await asyncio.sleep(self.delay_seconds)
        if end == "broken":
            raise ModelCallError("cut", kind="transient", may_be_billed=True, retry_after_seconds=0.01)
        asked = sum(fragment.role == "assistant" for fragment in request.fragments)
        if request.may_call_tools and asked < self.turns:
            message = calls(("think", {"about": f"number {asked}"}))
        else:
            message = Message(role="assistant", parts=(TextPart(text="that is all"),), stop="end")
        if end != "unknown":
            self.told.append(usage)
        return ModelReply(message=message, usage=usage, is_usage_known=end != "unknown")
