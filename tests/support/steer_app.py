"""Agents for plans that change while they run: planners whose answers are written down."""

import json
import time
from typing import Any

from temporalio import workflow

from perdure import Agent, App, Limits, Verdict
from perdure.contracts.messages import Message
from perdure.contracts.plan import Plan, PlanResult, Task
from perdure.testing import ScriptedModel
from perdure.workflows import plan_and_run


@workflow.defn
class PlannedByMe:
    """Has a plan written and answered, in a workflow of a user's own."""

    @workflow.run
    async def run(self, goal: str) -> PlanResult:
        return await plan_and_run(goal, planner="planner", synthesiser="writer")


def has_a_digit(answer: str) -> str | None:
    return None if any(each.isdigit() for each in answer) else "It has no digit."


def plan(*tasks: dict[str, Any]) -> str:
    return json.dumps({"tasks": [{"agent": "worker", "input": each["id"], **each} for each in tasks]})


CYCLE = plan({"id": "a", "needs": ["b"]}, {"id": "b", "needs": ["a"]})
UNKNOWN = plan({"id": "a", "agent": "wroker"}, {"id": "b", "needs": ["a", "c"]})
GOOD = plan({"id": "a"}, {"id": "b", "needs": ["a"], "input": "{{a}}"})


def _replies(messages: list[Message]) -> int:
    return sum(each.role == "assistant" for each in messages)


def _plan(request: Any, messages: list[Message]) -> Any:
    """Write a cyclic plan, then one with unknown names, then a good one; replace what failed."""
    asked = messages[0].text
    if "these tasks failed" not in asked:
        script = [CYCLE] if asked.startswith("hopeless") else [CYCLE, UNKNOWN, GOOD]
        return script[min(_replies(messages), len(script) - 1)]
    failed = asked.split("these tasks failed: ")[1].split(". ")[0].split(", ")
    if asked.startswith("in vain"):
        return plan(*({"id": each, "input": "fail", "on_error": "replan"} for each in failed))
    if asked.startswith("touch"):  # what is done can't be changed; the second answer does not
        first = [{"id": "done", "input": "again"}]
        return plan(
            *(first if _replies(messages) == 0 else []), *({"id": each, "input": "other"} for each in failed)
        )
    if asked.startswith("leave"):
        return plan({"id": "extra"})
    return plan(*({"id": each, "input": "other way"} for each in failed))


def _work(request: Any, messages: list[Message]) -> Any:
    text = messages[0].text
    if text.startswith("fail"):
        return Message(role="assistant", stop="end")
    if text.startswith("flaky"):  # fails until the time that it was given
        return "late enough" if time.time() > float(text.split()[1]) else Message(role="assistant", stop="end")
    if text.startswith("digit"):
        return "four" if _replies(messages) == 0 or "never" in text else "4"
    if text.startswith("long"):
        return "x" * int(text.split()[1])
    return f"<{text}>" if len(text) < 200 else f"<{len(text)} characters>"


def _page(request: Any, messages: list[Message]) -> Any:
    return json.dumps({"outline": ["one", "two"], "title": "T"})


def _judge(request: Any, messages: list[Message]) -> Any:
    is_good = "4" in messages[0].text.split("The answer:\n")[1]
    return Verdict(accept=is_good, reason="" if is_good else "It is bad.").to_bytes().decode()


_few = Limits(max_consecutive_errors=1, max_rejections=2)
app = App(
    agents=[
        Agent("planner", model="plan:x", output=Plan, limits=Limits(max_rejections=2)),
        Agent("worker", model="work:x", description="Works.", limits=_few),
        Agent("late", model="late:x", limits=_few),
        Agent("pager", model="page:x", output=dict[str, Any]),
        Agent("judge", model="judge:x", output=Verdict),
        Agent("writer", model="write:x"),
        Agent("fixer", model="fix:x"),
        Agent("slow", model="slow:x"),
    ],
    verifiers=[has_a_digit],
    workflows=[PlannedByMe],
    providers=[
        ScriptedModel(_plan, name="plan"),
        ScriptedModel(_work, name="work"),
        ScriptedModel(_work, name="late", delay_seconds=1),
        ScriptedModel(["fixed"], name="fix"),
        ScriptedModel(["too late"], name="slow", delay_seconds=60),
        ScriptedModel(_page, name="page"),
        ScriptedModel(_judge, name="judge"),
        ScriptedModel(lambda _, messages: f"From: {messages[0].text[-120:]}", name="write"),
    ],
)


def steered_plan() -> Plan:
    """Return a plan with something for everybody to change."""
    tasks = (
        Task(id="long", agent="worker", input="text", produces=("text",)),
        Task(id="slow", agent="late", needs=("long",), input="{{artifacts.text}}"),
        Task(id="slower", agent="late", needs=("slow",), input="slow"),
        Task(id="checked", agent="worker", input="digit", verify="has_a_digit"),
        Task(id="bad", agent="worker", input="fail", on_error="replan"),
        Task(id="after", agent="worker", needs=("bad",), input="{{bad}}"),
        Task(id="failed", agent="worker", input="fail", on_error="skip_dependents"),
        Task(id="skipped", agent="worker", needs=("failed",), input="x"),
        Task(id="extra", agent="worker", needs=("slower",), input="x"),
    )
    return Plan(tasks=tasks, planner="planner")
