"""The agent on Temporal's test server; the fixture `agent_test` is perdure's."""

from collections.abc import Callable

import pytest
from app import app, search_notes

from perdure import Agent, App, ToolRetry
from perdure.testing import AgentRun, ScriptedModel, assert_never_exceeds, assert_tool_called, calls

AgentTest = Callable[..., AgentRun]


def test_a_tool_is_still_a_function() -> None:
    assert search_notes("PILOT").startswith("harbour.md:5: Boats longer than thirty metres")
    with pytest.raises(ToolRetry, match="empty"):
        search_notes(" ")


def test_the_agent_answers_from_the_notes(agent_test: AgentTest) -> None:
    run = agent_test(app, "assistant", "When does the harbour open?")
    assert "six in the morning" in str(run.output)
    assert_tool_called(run, "search_notes")


def test_it_gives_up_politely(agent_test: AgentTest) -> None:
    """What the model says is written down here, so that the test is about everything else."""
    script = [calls(("search_notes", {"query": "crane"})), "The notes don't say."]
    scripted = Agent("assistant", model="scripted:x", tools=[search_notes])
    run = agent_test(App(agents=[scripted], providers=[ScriptedModel(script)]), "assistant", "Who owns the crane?")
    assert run.output == "The notes don't say."
    assert run.tool_uses[0].result == "No line holds any of these words."
    assert_never_exceeds(run, turns=2, tool_calls=1)
