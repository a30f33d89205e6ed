"""Choosing an agent by rules: its tags and capabilities against what is asked. Both sides; pure.

Of the candidates that have every capability that is asked for, it is the one with the most points, compared in
this order; of equals the first, as the candidates are given or else as the app declares them:

1. how many of the tags that are asked for it has;
2. whether the kind of the work is one of its tags or capabilities;
3. how many of its tags and capabilities are words of the text.

Upper and lower case are the same.
"""

import re
from collections.abc import Mapping, Sequence

from perdure.agents.agent import Agent
from perdure.contracts.selection import Selection, SelectRequest
from perdure.errors import NoCandidateError, UnknownAgentError, suggest


def suited(request: SelectRequest, agents: Mapping[str, Agent]) -> list[Agent]:
    """Return the agents that may be chosen, in their order.

    Raises:
        UnknownAgentError: A candidate isn't there. Not retryable.
        NoCandidateError: None has every capability that is asked for. Not retryable.
    """
    for name in request.candidates:
        if name not in agents:
            raise UnknownAgentError(f"There is no agent {name!r} to choose.{suggest(name, agents)}")
    candidates = [agents[name] for name in dict.fromkeys(request.candidates)] or list(agents.values())
    wanted = _folded(request.capabilities)
    found = [agent for agent in candidates if wanted <= _folded(agent.capabilities)]
    if not found:
        listed = ", ".join(agent.name for agent in candidates) or "no agents"
        raise NoCandidateError(
            f"No agent of {listed} has the capabilities {', '.join(request.capabilities)}: give them to one, or "
            "ask for less."
        )
    return found


def choose_by_rules(request: SelectRequest, candidates: Sequence[Agent]) -> Selection:
    """Return the agent with the most points."""
    points = [_points(request, agent) for agent in candidates]
    best = points.index(max(points))
    return Selection(
        agent=candidates[best].name, strategy="rules", kind=request.kind, why=_why(request, points, best)
    )


def _points(request: SelectRequest, agent: Agent) -> tuple[int, int, int]:
    labels = _folded((*agent.tags, *agent.capabilities))
    text = request.text.casefold()
    words = sum(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) is not None for label in labels)
    tags = _folded(request.tags) & _folded(agent.tags)
    return len(tags), int(request.kind.casefold() in labels), words


def _why(request: SelectRequest, points: Sequence[tuple[int, int, int]], best: int) -> str:
    tags, is_of_kind, words = points[best]
    equals = points.count(points[best])
    said = [
        f"{tags} of {len(_folded(request.tags))} tags" if request.tags else "",
        f"knows {request.kind}" if is_of_kind else "",
        f"{words} of its labels in the text" if words else "",
        f"the first of {equals} equals" if equals > 1 else "",
        "the only candidate" if len(points) == 1 else "",
    ]
    return ", ".join(filter(None, said)) or "the most points"


def _folded(labels: Sequence[str]) -> set[str]:
    return {label.casefold() for label in labels if label}
