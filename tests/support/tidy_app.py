"""An app whose runs hang in a model call, and clean up by a tool that leaves a trace in a file."""

import os

from perdure import Agent, App, ModelSettings, tool
from tests.support.tree_workflows import ManyAgents, ManyTidy, Tidy


@tool(idempotent=True)
def note(text: str) -> None:
    """Leave a trace."""
    with open(os.environ["TRACE"], "a") as file:
        file.write(f"{text}\n")


app = App(
    agents=[Agent("slow", model="openai:gpt-5-mini", settings=ModelSettings(stream=False))],
    tools=[note],
    workflows=[ManyAgents, ManyTidy, Tidy],
)
