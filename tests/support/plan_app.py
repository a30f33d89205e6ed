"""Agents for plans: what one is asked says what it does."""

from typing import Any

from pydantic import BaseModel

from perdure import Agent, App, Limits
from perdure.contracts.messages import Message
from perdure.errors import ModelCallError
from perdure.testing import ScriptedModel
from tests.support.plan_workflows import TwoPlans


class Page(BaseModel):
    title: str
    lines: list[str]


def _do(request: Any, messages: list[Message]) -> Any:
    """Fail, answer at length, or say what was asked."""
    text = messages[0].text
    if text.startswith("fail"):
        return Message(role="assistant", stop="end")
    if text.startswith("wail"):
        return ModelCallError("\x01" * 5_000, kind="fatal", status_code=400)
    if text.startswith("long"):
        return "x" * int(text.split()[1])
    return f"<{text}>" if len(text) < 1000 else f"<{len(text)} characters>"


_few = Limits(max_consecutive_errors=1)
app = App(
    agents=[
        Agent("worker", model="do:x", limits=_few),
        Agent("expert", model="expert:x"),
        Agent("pager", model="page:x", output=Page),
        Agent("late", model="late:x", limits=_few),
        Agent("slow", model="slow:x"),
    ],
    workflows=[TwoPlans],
    providers=[
        ScriptedModel(_do, name="do"),
        ScriptedModel(["by an expert"], name="expert"),
        ScriptedModel(['{"title": "T", "lines": ["one", "two"]}'], name="page"),
        ScriptedModel(_do, name="late", delay_seconds=1),
        ScriptedModel(["too late"], name="slow", delay_seconds=60),
    ],
)
