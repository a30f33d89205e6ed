"""An app whose vendor writes every bill into a file, as a vendor would that is elsewhere."""

import asyncio
import os
from pathlib import Path

from perdure import Agent, App, Limits, ModelSettings
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.usage import Usage
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink
from perdure.testing import calls


def _bill(tree: str, tokens: int) -> None:
    with Path(os.environ["BILLS"]).open("a") as bills:
        bills.write(f"{tree} {tokens}\n")


class FileBiller:
    """Bills 1,000 tokens of output when a call begins, and answers after a while."""

    name = "biller"
    protocol = "biller"

    def check(self) -> None:
        """Nothing is needed."""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        return Fragment(message.role, message.to_bytes())

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        prompt = 100 + sum(len(each.body) for each in request.fragments) // 4
        output = request.max_output_tokens or 10**9
        tree = Message.model_validate_json(request.fragments[0].body).text
        _bill(tree, prompt + output)
        await asyncio.sleep(float(os.environ["CALL_SECONDS"]))
        asked = sum(fragment.role == "assistant" for fragment in request.fragments)
        is_order = request.may_call_tools and request.instructions == "boss" and asked == 0
        orders = calls(*[("member", {"input": tree}) for _ in range(4)])
        message = Message(role="assistant", parts=(TextPart(text="done"),), stop="end")
        usage = Usage(input_tokens=prompt, output_tokens=output)
        return ModelReply(message=orders if is_order else message, usage=usage)


SETTINGS = ModelSettings(max_output_tokens=1000)
single = Agent("single", model="biller:x", on_limit="fail", settings=SETTINGS)
asker = Agent("asker", model="biller:x", on_limit="ask", settings=SETTINGS)
member = Agent("member", model="biller:x", description="Works.", on_limit="fail", settings=SETTINGS)
boss = Agent(
    "boss",
    model="biller:x",
    instructions="boss",
    tools=[member.as_tool()],
    limits=Limits(max_parallel_tool_calls=4),
    settings=SETTINGS,
)
app = App(agents=[single, asker, member, boss], providers=[FileBiller()])
