"""What the agent says when there is no language model: rules that read the conversation."""

import json
import re

from perdure.contracts.messages import Message, TextPart, ToolResultPart
from perdure.providers.base import ModelRequest
from perdure.testing import calls


def reply(_: ModelRequest, messages: list[Message]) -> str | Message:
    """Return the next message: a call of a tool, or a sentence."""
    result = next((part for part in messages[-1].parts if isinstance(part, ToolResultPart)), None)
    wanted = next(message.text for message in reversed(messages) if message.role == "user")
    if result is not None:
        return _after(result, wanted)
    number = re.search(r"\d{4}", wanted)
    if number is None:
        return "Which order is it about? Its number has four digits."
    return calls(("find_order", {"number": int(number[0])}))


def _after(result: ToolResultPart, wanted: str) -> str | Message:
    text = "".join(part.text for part in result.content if isinstance(part, TextPart))
    if result.name != "find_order" or result.outcome != "ok":
        return text
    order = json.loads(text)
    if not re.search(r"refund|broken|money back", wanted, re.IGNORECASE):
        return f"Order {order['number']}, {order['item']}, is {order['state']}."
    asked = re.search(r"\$(\d+)", wanted)
    amount = float(asked[1]) if asked else order["price_usd"]
    return calls(("refund", {"number": order["number"], "amount_usd": amount, "reason": wanted}))
