"""Doubles, cassettes and checks that perdure's own tests and users' tests share.

Importing it imports nothing else; each name is loaded when it is first used, since pytest loads the plugin in
every project that perdure is installed beside. May import everything but the command line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing.asserting import assert_never_exceeds, assert_tool_called
    from perdure.testing.cassettes import Cassette, record_cassette
    from perdure.testing.killing import kill_worker_at
    from perdure.testing.playing import CassetteResult, Departure, replay_cassette
    from perdure.testing.recording import RecordedCall, RecordingModel
    from perdure.testing.replay import ReplayFault, ReplayReport, check_replay, open_histories, stored_histories
    from perdure.testing.running import AgentRun, ToolUse, run_agent_test, time_skipping_server
    from perdure.testing.scripted import ScriptedModel, calls

_HOMES = {
    "AgentRun": "running",
    "Cassette": "cassettes",
    "CassetteResult": "playing",
    "Departure": "playing",
    "RecordedCall": "recording",
    "RecordingModel": "recording",
    "ReplayFault": "replay",
    "ReplayReport": "replay",
    "ScriptedModel": "scripted",
    "ToolUse": "running",
    "assert_never_exceeds": "asserting",
    "assert_tool_called": "asserting",
    "calls": "scripted",
    "check_replay": "replay",
    "kill_worker_at": "killing",
    "open_histories": "replay",
    "record_cassette": "cassettes",
    "replay_cassette": "playing",
    "run_agent_test": "running",
    "stored_histories": "replay",
    "time_skipping_server": "running",
}

__all__ = [
    "AgentRun",
    "Cassette",
    "CassetteResult",
    "Departure",
    "RecordedCall",
    "RecordingModel",
    "ReplayFault",
    "ReplayReport",
    "ScriptedModel",
    "ToolUse",
    "assert_never_exceeds",
    "assert_tool_called",
    "calls",
    "check_replay",
    "kill_worker_at",
    "open_histories",
    "record_cassette",
    "replay_cassette",
    "run_agent_test",
    "stored_histories",
    "time_skipping_server",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'perdure.testing' has no attribute {name!r}")
    return getattr(import_module(f"perdure.testing.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
