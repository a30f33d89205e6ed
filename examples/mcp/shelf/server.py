"""An MCP server over a folder of notes, as anybody would write one: it knows nothing of perdure."""

import re
from pathlib import Path

from mcp.server.mcpserver import MCPServer

NOTES = Path(__file__).parents[1] / "notes"
server = MCPServer("notes")


@server.tool()
def search(query: str) -> str:
    """Search the notes for words; every line with one of them comes back as `path:line: text`."""
    words = set(query.lower().split())
    hits = [
        f"{path.name}:{number}: {line}"
        for path in sorted(NOTES.glob("*.md"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if words & set(re.findall(r"\w+", line.lower()))
    ]
    return "\n".join(hits) or "No line holds any of these words."


@server.resource("note://{name}")
def note(name: str) -> str:
    """A note as a whole."""
    if not re.fullmatch(r"[a-z]+\.md", name):
        raise ValueError(f"There is no note {name!r}.")
    return (NOTES / name).read_text()


if __name__ == "__main__":
    server.run("stdio")
