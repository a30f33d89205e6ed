"""The agent and its tool.

MODEL chooses the model, with its vendor's key in the environment. Without it, `offline:reader` answers by rules,
which needs neither key nor network.
"""

import os
import re
from pathlib import Path

from perdure import Agent, App, ToolRetry, tool

NOTES = Path(__file__).parent / "notes"


@tool(idempotent=True)
def search_notes(query: str) -> str:
    """Search the notes for words; every line with one of them comes back as `path:line: text`.

    Args:
        query: Words to look for, separated by spaces; case doesn't matter.
    """
    words = set(query.lower().split())
    if not words:
        raise ToolRetry("The query is empty: give one or more words.")
    hits = [
        f"{path.name}:{number}: {line}"
        for path in sorted(NOTES.glob("*.md"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if words & set(re.findall(r"\w+", line.lower()))
    ]
    return "\n".join(hits) or "No line holds any of these words."


assistant = Agent(
    "assistant",
    description="Answers a question from the notes.",
    instructions="Answer from the notes, in a sentence or two, with [source: path:line] after each. "
    "Look for the words of the question with search_notes. If the notes don't say, say so.",
    model=os.environ.get("MODEL") or "offline:reader",
    tools=[search_notes],
)

app = App(agents=[assistant])
