"""A server on the `mcp` SDK, as users write them: `python -m tests.support.mcp_server [PORT]`, else over stdio.

What it says of itself can be changed while it is at work, by the file that MCP_TEST_STATE names.
"""

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Image, MCPServer

STATE = Path(os.environ.get("MCP_TEST_STATE", os.devnull))
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
server = MCPServer("peer")
counts: dict[str, int] = {}


@server.tool(description=STATE.read_text() if STATE.is_file() else "Add two numbers.")
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def count(name: str) -> int:
    """Count up, in the memory of this process."""
    counts[name] = counts.get(name, 0) + 1
    return counts[name]


@server.tool()
def environment() -> list[str]:
    """Tell the names of the environment."""
    return sorted(os.environ)


@server.tool()
def tell_secret() -> str:
    """Tell what must not be told."""
    return f"it is {os.environ.get('TOKEN', 'nothing')}"


@server.tool()
def picture() -> Image:
    """Draw."""
    return Image(data=PNG, format="png")


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no luck")


@server.tool()
def die() -> str:
    """End the process in the middle of a call."""
    os._exit(3)


@server.tool()
def pid() -> int:
    """Tell the process."""
    return os.getpid()


@server.resource("note://today")
def note() -> str:
    """What is to be done."""
    return "water the plants"


@server.prompt()
def greet(who: str) -> str:
    """Greet somebody."""
    return f"Say hello to {who}."


if __name__ == "__main__":
    if sys.argv[1:]:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
