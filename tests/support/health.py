"""Asking a worker for its health."""

import socket
from typing import Any

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def ask_health(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """Return the status code and the body."""
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.request(method, f"http://127.0.0.1:{port}{path}")
    return answer.status_code, answer.json() if answer.content else {}
