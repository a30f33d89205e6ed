"""Choosing by rules: a table of what is asked and who it is."""

from typing import Any

import pytest

from perdure import Agent
from perdure.agents.selection import choose_by_rules, suited
from perdure.contracts.selection import Selection, SelectRequest
from perdure.errors import NoCandidateError, UnknownAgentError

AGENTS = {
    agent.name: agent
    for agent in (
        Agent("general", model="x:y"),
        Agent("lawyer", model="x:y", tags=["law", "contracts"], capabilities=["German"]),
        Agent("solicitor", model="x:y", tags=["Law"], capabilities=["german", "web"]),
        Agent("coder", model="x:y", tags=["python", "c++"]),
    )
}


def choose(**asked: Any) -> Selection:
    request = SelectRequest(**asked)
    return choose_by_rules(request, suited(request, AGENTS))


@pytest.mark.parametrize(
    ("asked", "agent", "why"),
    [
        ({}, "general", "the first of 4 equals"),
        ({"tags": ("law",)}, "lawyer", "1 of 1 tags, the first of 2 equals"),
        ({"tags": ("law", "contracts")}, "lawyer", "2 of 2 tags"),
        ({"candidates": ("solicitor", "lawyer"), "tags": ("law",)}, "solicitor", "1 of 1 tags, the first of 2"),
        ({"tags": ("law",), "capabilities": ("WEB",)}, "solicitor", "1 of 1 tags, the only candidate"),
        ({"kind": "Python"}, "coder", "knows Python"),
        ({"text": "Write it in C++, please."}, "coder", "1 of its labels in the text"),
        ({"text": "Is my lawn in order?"}, "general", "the first of 4 equals"),
        ({"tags": ("contracts",), "text": "python and c++", "kind": "python"}, "lawyer", "1 of 1 tags"),
        ({"kind": "python", "text": "law, contracts, german"}, "coder", "knows python"),
    ],
)
def test_who_is_chosen(asked: dict[str, Any], agent: str, why: str) -> None:
    chosen = choose(**asked)
    assert (chosen.agent, chosen.strategy) == (agent, "rules")
    assert chosen.why.startswith(why)


def test_a_capability_is_needed() -> None:
    with pytest.raises(NoCandidateError, match=r"No agent of general, coder has the capabilities german, web"):
        choose(candidates=("general", "coder"), capabilities=("german", "web"))


def test_an_unknown_candidate_is_named() -> None:
    with pytest.raises(UnknownAgentError, match=r"no agent 'codre' to choose. Did you mean 'coder'\?"):
        choose(candidates=("codre",))
