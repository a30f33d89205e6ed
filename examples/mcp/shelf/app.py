"""An agent whose tools come from MCP servers.

SHELF_MODEL chooses the model, with its vendor's key in the environment. Without it, `offline:reader` answers by
rules, which needs neither key nor network.
"""

import os
import sys

from perdure import Agent, App, MCPServer

notes = MCPServer.stdio("notes", sys.executable, args=["-m", "shelf.server"], read_only=["search"])

reader = Agent(
    "reader",
    description="Answers a question from the notes.",
    instructions="Answer the question from the notes, in a sentence or two, with [source: path:line] after each. "
    "Look for its words with notes__search. If the notes don't say, say so.",
    model=os.environ.get("SHELF_MODEL") or "offline:reader",
    mcp_servers=[notes, "files"] if os.environ.get("SHELF_FILES") else [notes],
)

app = App(agents=[reader])
