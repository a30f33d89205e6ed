"""What the model is told of calls whose outcome nobody knows. Both sides; pure."""

from perdure.contracts.messages import Message, ToolCallPart, tool_message
from perdure.contracts.spec import ToolSpec


def unknown_outcome(tool: ToolSpec, call: ToolCallPart, reason: str) -> Message:
    """Return the answer to a call that may or may not have taken effect."""
    if tool.idempotent:
        return tool_message(call, f"{tool.name} could not be completed: {reason}", outcome="error")
    text = (
        f"outcome unknown: {reason} while {tool.name} ran. It may or may not have taken effect, and it was not "
        "run again. Find out before you repeat it."
    )
    return tool_message(call, text, outcome="unknown")
