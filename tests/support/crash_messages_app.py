"""An app whose model thinks for a while, so that messages, interruptions and pauses find it at work."""

from typing import Any

from perdure import Agent, App, Limits, tool
from perdure.contracts.messages import Message
from perdure.testing import ScriptedModel, calls


@tool(idempotent=True)
async def look(number: int) -> str:
    """Look."""
    return f"seen {number}"


def _script(request: Any, messages: list[Message]) -> Any:
    """Look once after each message of the user's, then answer."""
    if messages[-1].role == "tool":
        return f"answered {sum(message.role == 'user' for message in messages)}"
    return calls(("look", {"number": len(messages)}))


app = App(
    agents=[Agent("thinker", model="scripted:x", tools=[look], limits=Limits(max_turns=1000))],
    providers=[ScriptedModel(_script, delay_seconds=0.3)],
)
