"""The agents, the tools and the workflow of the desk.

DESK_MODEL chooses the model, with its vendor's key in the environment. Without it, `offline:reader` answers by
rules, which needs neither key nor network.
"""

import os
import re
from pathlib import Path

from desk.briefing import BriefingWorkflow
from perdure import Agent, App, ToolContext, ToolRetry, tool

NOTES = Path(__file__).parents[1] / "notes"


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
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if words & set(re.findall(r"\w+", line.lower()))
    ]
    return "\n".join(hits) or "No line holds any of these words."


@tool(idempotent=True)
def publish(title: str, text: str, context: ToolContext) -> str:
    """Publish a text; the same call again writes the same file.

    Args:
        title: Of the text.
        text: All of it.
        context: Of the call; a model doesn't see it.
    """
    folder = Path(os.environ.get("DESK_OUT", "out"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{context.idempotency_key[:16]}.md"
    path.write_text(f"# {title}\n\n{text}\n")
    return str(path)


@tool(idempotent=True)
def remind(title: str, times: int) -> str:
    """Remind the editor of a draft; here, a line in the worker's log.

    Args:
        title: Of the draft.
        times: Which reminder it is.
    """
    print(f"Reminder {times}: the briefing {title!r} waits for you.")
    return "reminded"


reader = Agent(
    "reader",
    description="Answers a question from the notes.",
    instructions="Answer the question from the notes, in a sentence or two, with [source: path:line] after each. "
    "Look for its words with search_notes. If the notes don't say, say so.",
    model=os.environ.get("DESK_MODEL") or "offline:reader",
    tools=[search_notes],
)

app = App(agents=[reader], tools=[publish, remind], workflows=[BriefingWorkflow])
