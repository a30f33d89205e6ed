"""Reading an answer out of the message that gives it. Both sides; pure."""

import json
from typing import Any

from perdure.contracts.messages import Message
from perdure.contracts.spec import FINAL_OUTPUT_TOOL, AgentSpec


def is_answer(message: Message) -> bool:
    """Say whether a usable reply ends the conversation."""
    return not message.tool_calls or any(call.name == FINAL_OUTPUT_TOOL for call in message.tool_calls)


def output_text(message: Message) -> str:
    """Return the text of the answer: of the output tool's call where there is one."""
    final = next((call for call in message.tool_calls if call.name == FINAL_OUTPUT_TOOL), None)
    return message.text if final is None else final.arguments


def output_value(spec: AgentSpec, message: Message) -> Any:
    """Return the answer: text, or the JSON of the agent's output type."""
    text = output_text(message)
    if spec.output is None:
        return text
    value = json.loads(text)
    return value["value"] if spec.output.is_wrapped else value
