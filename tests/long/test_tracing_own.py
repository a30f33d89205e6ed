"""Tracing in a service of a user's own: its provider, its workflows in the sandbox, maps."""

import asyncio
import json
import sys
from collections import Counter

from perdure.devserver import DevServer
from tests.support.workers import ROOT

Span = tuple[str, str, str, str]
"""Name, trace, span, parent."""


async def _spans_of_service(address: str) -> list[Span]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.trace_own",
        address,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, err.decode()
    return [tuple(json.loads(line)) for line in out.decode().splitlines()]


def _below(spans: list[Span], name: str) -> Counter[str]:
    ids = {span_id for found, _, span_id, _ in spans if found == name}
    return Counter(found for found, _, _, parent in spans if parent in ids)


async def test_a_service_with_a_provider_of_its_own(server: DevServer) -> None:
    spans = await _spans_of_service(server.address)
    by_id = {span_id: (name, trace_id) for name, trace_id, span_id, _ in spans}
    assert len(by_id) == len(spans)
    roots = [name for name, _, _, parent in spans if parent not in by_id]
    assert sorted(roots) == ["a request", "invoke_agent asker", "invoke_workflow Steps"]
    assert _below(spans, "invoke_agent asker")["wait limit"] == 1
    assert all(by_id[parent][1] == trace_id for _, trace_id, _, parent in spans if parent in by_id)
    assert _below(spans, "a request") == {"invoke_workflow MapWorkflow": 1, "invoke_workflow Greeting": 1}
    assert _below(spans, "invoke_workflow Greeting") == {"greet": 1}
    steps = _below(spans, "invoke_workflow Steps")
    assert steps["invoke_agent echo"] == 1
    assert steps["chat x"] == 1, "of the agent inline"
    assert steps["execute_tool add"] == 1
    assert Counter(name for name, *_ in spans)["invoke_agent echo"] == 3
