"""Servers that no client should trust, in plain JSON lines: `python tests/support/mcp_hostile.py KIND`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

KIND = sys.argv[1]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}


def tools() -> list[dict[str, Any]]:
    if KIND == "many":
        return [{"name": f"tool{i}", "description": "One of many.", "inputSchema": SCHEMA} for i in range(1000)]
    if KIND == "megabyte":
        return [
            {"name": "long", "description": "x" * 1_000_000, "inputSchema": SCHEMA},
            {"name": "short", "description": "Short.", "inputSchema": SCHEMA},
        ]
    return [{"name": KIND, "description": "Do it.", "inputSchema": SCHEMA}]


counted: list[None] = []


def flood() -> None:
    line = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info"}}) + "\n"
    while True:
        sys.stdout.write(line * 1000)


def never_end_a_line() -> None:
    while True:
        sys.stdout.write("x" * 65536)


def be_noisy() -> None:
    sys.stderr.write("noise " * 1_000_000)  # more than a pipe holds: it must be read
    sys.stderr.flush()


def start_a_child() -> str:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)
    return str(child.pid)


CALLS: dict[str, Callable[[], Any]] = {
    "hang": lambda: time.sleep(600),
    "exit": lambda: os._exit(7),
    "thrice": lambda: os._exit(7) if len(counted) == 3 else None,
    "flood": flood,
    "endless": never_end_a_line,
    "fine": be_noisy,
    "children": start_a_child,
    "large": lambda: "y" * 1_000_000,
    "counting": lambda: str(len(counted)),
}


def call() -> dict[str, Any]:
    counted.append(None)
    if KIND == "nonsense":
        return {"content": "this is no content"}
    return {"content": [{"type": "text", "text": CALLS[KIND]() or "done"}]}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        info = {"name": KIND, "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": tools()}
    if method == "tools/call":
        return call()
    return None


print("Welcome! This line is no message.", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    result = answer(request["method"], request.get("params") or {})
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
    unknown = {"code": -32601, "message": "Method not found"}
    reply |= {"error": unknown} if result is None else {"result": result}
    print(json.dumps(reply), flush=True)
