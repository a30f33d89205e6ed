"""`run_agent`: an agent as a step of a workflow, in a run of its own or in the caller's history. Workflow side."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, overload

from pydantic import JsonValue, TypeAdapter
from temporalio import workflow

from perdure.contracts.calls import LoadAgentRequest, ReadOutputRequest
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart, Message, TextPart
from perdure.contracts.run import Counters, RunInput
from perdure.contracts.spec import AgentSpec
from perdure.errors import HistoryFullError, PayloadTooLargeError, RunError
from perdure.workflows._allowance import budget_under
from perdure.workflows._bills import open_bill
from perdure.workflows._calls import load_agent, read_output
from perdure.workflows._conversation import Conversation
from perdure.workflows._funding import inherit, run_funded
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host
from perdure.workflows._subagents import new_child_id
from perdure.workflows.loop import AgentLoop
from perdure.workflows.selecting import note_failure, note_success

T = TypeVar("T")

_MAX_INPUT_BYTES = 1_500_000
_INLINE_EVENTS = 3_000
_INLINE_BYTES = 3 * 1024 * 1024


@overload
async def run_agent(
    name: str,
    input: str | Sequence[ContentPart],
    *,
    output: type[T],
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
    inline: bool = False,
    id: str | None = None,
    kind: str | None = None,
) -> T: ...
@overload
async def run_agent(
    name: str,
    input: str | Sequence[ContentPart],
    *,
    output: None = None,
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
    inline: bool = False,
    id: str | None = None,
    kind: str | None = None,
) -> Any: ...


async def run_agent(
    name: str,
    input: str | Sequence[ContentPart],
    *,
    output: type[Any] | None = None,
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
    inline: bool = False,
    id: str | None = None,
    kind: str | None = None,
) -> Any:
    """Run an agent, and return its output.

    By default it is a child run: with a history of its own, which continues as new by itself, and visible,
    cancellable and limited by itself.

    Args:
        name: The agent.
        input: What it is asked: text, or content parts; at most 1.5 MB.
        output: The type to make of the output; text or plain JSON when None.
        limits: Over the agent's own.
        context: Values for its instructions and tools.
        inline: Run it in the caller's history, without a run of its own: for a few turns.
        id: The child's workflow id; the caller's with the agent's name and a number when None.
        kind: What sort of work it is. Unless None, the outcome counts on the scoreboard: see `select_agent`.

    Raises:
        RunError: How the agent's run ended, with the agent's name. Not retryable.
        UnknownAgentError: Not retryable.
        HistoryFullError: An inline agent took more turns than the caller's history has room for. Not retryable.
        PayloadTooLargeError: The input is too large. Not retryable.
        InvalidInputError: There is a run of that `id` already. Not retryable.
    """
    parts = (TextPart(text=input),) if isinstance(input, str) else tuple(input)
    request = RunInput(
        agent=name,
        input=parts,
        limits=limits or Limits(),
        context=dict(context) if context else None,
        depth=current_host().depth,
        task_kind=kind or "",
    )
    if len(request.to_bytes()) > _MAX_INPUT_BYTES:
        raise PayloadTooLargeError(
            f"The input of agent {name!r} takes more than {_MAX_INPUT_BYTES} bytes: "
            "put it where a tool can read it."
        )
    work = _run_inline(request, kind) if inline else _run_apart(request, kind, id)
    since = workflow.now()
    try:
        value = await work
    except RunError as error:
        if kind is not None:
            note_failure(name, kind, error, since)
        raise
    return value if output is None else TypeAdapter(output).validate_python(value)


async def _run_apart(request: RunInput, kind: str | None, workflow_id: str | None) -> Any:
    child_id = workflow_id or new_child_id(request.agent)
    since = workflow.now()
    result = await run_funded(request, current_host().funds.account, workflow_id=child_id)
    if kind is not None:
        usage = result.counters.usage
        note_success(request.agent, kind, usage, since, model=result.model, score=result.score)
    if result.output_slot is None:
        return result.output
    return (await read_output(ReadOutputRequest(workflow_id=child_id))).output


async def _run_inline(request: RunInput, kind: str | None) -> Any:
    since = workflow.now()
    host = current_host()
    conversation = Conversation(f"{request.agent}-{host.number(request.agent)}")
    conversation.append(Message(role="user", parts=request.input), is_recorded=False)

    funds = host.funds
    limits = request.limits if funds.account is None else inherit(request.limits, funds.account.limits)

    async def load(name: str) -> AgentSpec:
        asked = LoadAgentRequest(agent=name, limits=limits, context=request.context)
        with typed_activity_failure():
            loaded = await load_agent(asked)
        host.add(loaded, conversation)
        return loaded

    if funds.account is not None:
        await host.find_earlier()  # what was spent before a reset counts first
    spec = await load(request.agent)
    open_bill(spec.search_attributes)
    account = await funds.open_inline(conversation.name, budget_under(spec, spec.limits))
    loop = AgentLoop(
        spec,
        conversation,
        counters=Counters(),
        started_at=workflow.now(),
        depth=request.depth,
        tenant=host.tenant,
        reload=load,
        on_progress=lambda: None,
        new_account=funds.open_own,
        account=account,
    )
    try:
        answer = await loop.run(should_stop=_is_history_full)
    finally:
        funds.close_inline(conversation.name, account)
    if answer is None:
        raise HistoryFullError(
            f"Agent {spec.name!r} took {loop.counters.turns} turns inline, and the history of this workflow "
            "has no room for more: run it with inline=False.",
            partial=conversation.last_text()[:10_000],
            turns=loop.counters.turns,
        )
    if kind is not None:
        usage = loop.counters.usage
        note_success(request.agent, kind, usage, since, model=answer.model, score=answer.score)
    return answer.value


def _is_history_full() -> bool:
    info = workflow.info()
    return info.get_current_history_length() >= _INLINE_EVENTS or info.get_current_history_size() >= _INLINE_BYTES
