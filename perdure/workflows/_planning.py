"""Asking a planner for a plan or for changes to one, and a synthesiser for an answer. Workflow side.

A planner's answers are judged inside its own run, by the verifier `perdure.plan`: what is wrong with a plan is in
its transcript, and how often it is asked again is its limit `max_rejections`.
"""

from collections.abc import Callable, Sequence

from pydantic import JsonValue, ValidationError

from perdure.contracts.calls import ReadOutputRequest
from perdure.contracts.messages import TextPart
from perdure.contracts.names import PLAN_CONTEXT, PLAN_VERIFIER
from perdure.contracts.plan import DescribeAgentsResult, Plan, PlanAmendment, PlanResult, TaskResult
from perdure.contracts.references import as_text
from perdure.contracts.run import RunInput, RunResult
from perdure.contracts.texts import cut
from perdure.errors import InvalidPlanError, PayloadTooLargeError
from perdure.workflows._calls import describe_agents, read_output
from perdure.workflows._funding import run_funded
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host
from perdure.workflows._plan_state import PlanState
from perdure.workflows._subagents import new_child_id

_MAX_INPUT_BYTES = 1_500_000
_SHOWN_CHARS = 2_000
"""Of each result for a planner, and of each failure."""
_RESULTS_BYTES = (600_000, 200_000, 50_000)
"""Of all results and failures together: the less, the more the rest of the input takes."""

_HOW = (
    "Answer with a plan: tasks, each with an id, the agent that does it, and its input. A task starts when the "
    "tasks in its `needs` are over. Its input says all that the agent must know; {{other}} stands for the whole "
    "result of the task `other`, which must be among its needs. Tasks that do not need each other are done at the "
    "same time."
)


async def ask_planner(goal: str, planner: str) -> Plan:
    """Return the plan that an agent writes."""
    with typed_activity_failure():
        known = await describe_agents(planner)
    text = f"{goal}\n\n{_HOW}\n\n{_cards(known)}"
    plan = await _ask(RunInput(agent=planner, input=_parts(text), verify=PLAN_VERIFIER, depth=_depth()), None)
    return plan if plan.planner else plan.model_copy(update={"planner": planner})


async def ask_replanner(state: PlanState, goal: str, failed: Sequence[str], *, workflow_id: str) -> PlanAmendment:
    """Return the changes that a plan's planner makes after failures."""
    with typed_activity_failure():
        known = await describe_agents(state.plan.planner)
    request = replan_request(state, goal, failed, known).model_copy(update={"depth": _depth()})
    return PlanAmendment(tasks=(await _ask(request, workflow_id)).tasks)


def replan_request(state: PlanState, goal: str, failed: Sequence[str], known: DescribeAgentsResult) -> RunInput:
    """Return what a plan's planner is asked after failures."""
    tasks = state.result().tasks
    context: dict[str, JsonValue] = {
        PLAN_CONTEXT: {
            "plan": state.plan.model_dump(mode="json"),
            "tasks": [_standing(each).model_dump(mode="json") for each in tasks],
        }
    }

    def request(most: int) -> RunInput:
        text = (
            f"{goal or state.plan.title}\n\nA plan for this is at work, and these tasks failed: "
            f"{', '.join(failed)}. Answer with a plan of the tasks that shall replace tasks (by their id) or be "
            "added. Tasks that are done or running stay, their results can be referred to, and they can't be "
            "changed; other tasks stay as they are unless you replace them. A failed task that you don't replace "
            "stays failed, and what needs it is skipped."
            f"\n\nThe state of every task:\n\n{_told(state.plan, tasks, most)}"
            f"\n\n{_HOW}\n\n{_cards(known)}"
        )
        return RunInput(agent=state.plan.planner, input=_parts(text), verify=PLAN_VERIFIER, context=context)

    return _fitting(request)


async def ask_synthesiser(goal: str, agent: str, result: PlanResult) -> PlanResult:
    """Return the result with the answer that an agent gives from it."""
    child_id = new_child_id(agent)
    request = synthesis_request(goal, agent, result).model_copy(update={"depth": _depth()})
    answer = await _run(request, child_id)
    return result.model_copy(update={"answer": answer.output, "answered_by": child_id})


def synthesis_request(goal: str, agent: str, result: PlanResult) -> RunInput:
    """Return what an agent is asked that answers from a plan's results."""

    def request(most: int) -> RunInput:
        return RunInput(
            agent=agent, input=_parts(f"{goal}\n\nThis was found out:\n\n{_results(result.tasks, most)}")
        )

    return _fitting(request)


async def _ask(request: RunInput, workflow_id: str | None) -> Plan:
    child_id = workflow_id or new_child_id(request.agent)
    value = await _output(await _run(request, child_id), child_id)
    try:
        return Plan.model_validate(value)
    except ValidationError as error:
        raise InvalidPlanError(f"The planner {request.agent!r} gave no plan: {error}", faults=[]) from None


def _fitting(request: Callable[[int], RunInput]) -> RunInput:
    """Return the request with as much of the results as it has room for; the least where it has none."""
    made = request(_RESULTS_BYTES[0])
    for most in _RESULTS_BYTES[1:]:
        if len(made.to_bytes()) <= _MAX_INPUT_BYTES:
            break
        made = request(most)
    return made


async def _run(request: RunInput, workflow_id: str) -> RunResult:
    """Run an agent on what may be large.

    Raises:
        PayloadTooLargeError: It is too large; the workflow task would fail for ever. Not retryable.
    """
    size = len(request.to_bytes())
    if size > _MAX_INPUT_BYTES:
        raise PayloadTooLargeError(
            f"agent {request.agent!r} was not started: with the plan and its goal, its input takes {size} bytes, "
            f"more than {_MAX_INPUT_BYTES}. Have tasks refer to what a tool can read."
        )
    return await run_funded(request, current_host().funds.account, workflow_id=workflow_id)


async def _output(result: RunResult, workflow_id: str) -> JsonValue:
    if result.output_slot is None:
        return result.output
    with typed_activity_failure():
        return (await read_output(ReadOutputRequest(workflow_id=workflow_id))).output


def _depth() -> int:
    return current_host().depth


def _parts(text: str) -> tuple[TextPart]:
    return (TextPart(text=text),)


def _cards(known: DescribeAgentsResult) -> str:
    agents = [f"- {each.name}: {each.description}" for each in known.agents]
    judges = f"\n\nA task's `verify` may be one of: {', '.join(known.verifiers)}." if known.verifiers else ""
    return "The agents:\n" + "\n".join(agents) + judges


def _standing(result: TaskResult) -> TaskResult:
    """Return what the verifier of a planner's changes must know of a task."""
    return TaskResult(id=result.id, agent=result.agent, state=result.state)


def _told(plan: Plan, results: Sequence[TaskResult], most: int) -> str:
    tasks = {task.id: task for task in plan.tasks}
    share = most // max(len(results), 1)
    return "\n\n".join(_task(tasks[each.id].needs, each, share) for each in results)


def _task(needs: Sequence[str], result: TaskResult, most: int) -> str:
    lines = [f"{result.id} ({result.agent}): {result.state}"]
    if needs:
        lines.append(f"needs: {', '.join(needs)}")
    if result.failure is not None:
        lines.append(f"failure: {result.failure.type}: {_cut(result.failure.message, _SHOWN_CHARS, most)}")
    if result.state == "done":
        lines.append(f"result: {_shown(result, _SHOWN_CHARS, most)}")
    return "\n".join(lines)


def _results(results: Sequence[TaskResult], most: int) -> str:
    share = most // max(len(results), 1)
    pieces: list[str] = []
    for each in results:
        if each.state == "done":
            pieces.append(f"{each.id}:\n{_shown(each, share, share)}")
        elif each.failure is not None:
            pieces.append(f"{each.id} failed: {_cut(each.failure.message, _SHOWN_CHARS, share)}")
        else:
            pieces.append(f"{each.id}: {each.state}")
    return "\n\n".join(pieces)


def _shown(result: TaskResult, chars: int, most: int) -> str:
    return "(long)" if result.is_output_apart else _cut(as_text(result.output), chars, most)


def _cut(text: str, chars: int, most: int) -> str:
    """Return a text, or its first characters that are no more bytes than `most`."""
    shown = cut(text[:chars], most)
    return shown if len(text) <= chars or shown != text[:chars] else f"{shown}…"
