"""Agents to choose from: one that can't do it, and one that can."""

from typing import Any

from perdure import Agent, App, Limits, Verdict
from perdure.contracts.messages import Message
from perdure.testing import ScriptedModel
from tests.support.select_workflows import Choosing, Impossible, Telling


def _fail(request: Any, messages: list[Message]) -> Any:
    return Message(role="assistant", stop="end")


def _half_good(answer: str) -> Verdict:
    return Verdict(accept=True, score=0.5)


_few = Limits(max_consecutive_errors=1)
app = App(
    agents=[
        Agent("clumsy", description="Drops things.", model="fail:x", limits=_few, tags=["china"]),
        Agent("deft", description="Never drops things.", model="work:x", tags=["glass"], verify=_half_good),
    ],
    workflows=[Choosing, Telling, Impossible],
    providers=[
        ScriptedModel(_fail, name="fail"),
        ScriptedModel(["done"], name="work"),
        ScriptedModel(
            ["I'd say deft", '{"agent": "nobody", "reason": "?"}', '{"agent": "deft", "reason": "It holds on."}'],
            name="chooser",
        ),
        ScriptedModel(["never of use"], name="useless"),
    ],
)
