"""`ask_human`: a question to a person, as a step of a workflow, and as a tool of an agent. Workflow side."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast, overload

from pydantic import JsonValue, TypeAdapter, ValidationError
from temporalio import workflow

from perdure.agents.fitting import fitting_faults
from perdure.contracts.messages import Message, ToolCallPart, tool_message
from perdure.contracts.spec import JsonSchema
from perdure.contracts.waits import QuestionTerms, Wait
from perdure.errors import AnswerTimeout, InvalidInputError
from perdure.workflows._clock import UNBOUNDED, Clock
from perdure.workflows._host import current_host
from perdure.workflows._waiting import Expired, until, wait_for_person, wait_id

T = TypeVar("T")

_QUESTION_CHARS = 4000
_TEXT: JsonSchema = {"type": "string"}


@overload
async def ask_human(question: str, *, output: type[T], timeout: timedelta | None = None, group: str = "") -> T: ...
@overload
async def ask_human(
    question: str, *, schema: JsonSchema | None = None, timeout: timedelta | None = None, group: str = ""
) -> Any: ...


async def ask_human(
    question: str,
    *,
    output: type[Any] | None = None,
    schema: JsonSchema | None = None,
    timeout: timedelta | None = None,
    group: str = "",
) -> Any:
    """Ask a person, and wait for the answer: `perdure inbox` shows the question, `perdure answer` answers it.

    No worker is needed meanwhile. An answer that doesn't fit is refused where it is given.

    Args:
        question: What is asked; at most 4,000 characters.
        output: The type of the answer.
        schema: Its JSON schema, instead of a type; a text when neither is given.
        timeout: How long to wait; no end when None.
        group: Whom it is for: what `perdure inbox --group` looks for.

    Raises:
        AnswerTimeout: Nobody answered in time. Not retryable.
        InvalidInputError: The question is too long. Not retryable.
    """
    if len(question) > _QUESTION_CHARS:
        raise InvalidInputError(f"The question has more than {_QUESTION_CHARS} characters: shorten it.")
    adapter: TypeAdapter[Any] | None = None if output is None else TypeAdapter(output)
    shape = adapter.json_schema() if adapter is not None else _TEXT if schema is None else schema
    info, host = workflow.info(), current_host()
    number = host.number("ask_human")
    wait = Wait(
        id=wait_id(info.first_execution_run_id, info.continued_run_id or "", str(number), question),
        kind="question",
        asked_at=workflow.now(),
        deadline=until(timeout),
        group=group,
        question=question,
        answer=shape,
        term=timeout,
    )
    faults = partial(fitting_faults, shape) if adapter is None else _faults_of(adapter)
    try:
        answer = (await wait_for_person(wait, faults)).answer
    except Expired:
        raise AnswerTimeout(f"Nobody answered in time: {question[:200]}", wait=wait.id) from None
    return answer if adapter is None else adapter.validate_python(answer)


def _faults_of(adapter: TypeAdapter[Any]) -> Callable[[JsonValue], list[str]]:
    """Return what checks an answer by its type, which knows more than a schema."""

    def faults(value: JsonValue) -> list[str]:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            return [
                ": ".join(filter(None, (".".join(str(step) for step in fault["loc"]), fault["msg"])))
                for fault in error.errors(include_url=False, include_input=False)
            ]
        return []

    return faults


async def answer_question(
    part: ToolCallPart,
    terms: QuestionTerms,
    *,
    id: str,
    agent: str,
    call_slot: int,
    index: int,
    conversation: str,
    should_suspend: Callable[[], bool],
    clock: Clock = UNBOUNDED,
) -> Message:
    """Return the message that answers an agent's call of a tool that asks people.

    Raises:
        Suspended: The run is to continue as new first.
    """
    question, shape, problem = _read_call(part, terms)
    if problem:
        return tool_message(part, problem, outcome="error")
    wait = Wait(
        id=id,
        kind="question",
        asked_at=workflow.now(),
        deadline=until(terms.timeout),
        group=terms.group,
        agent=agent,
        tool=part.name,
        call_slot=call_slot,
        index=index,
        conversation=conversation,
        question=question,
        answer=shape,
        term=terms.timeout,
    )
    try:
        decided = await wait_for_person(
            wait, partial(fitting_faults, shape), should_suspend=should_suspend, clock=clock
        )
    except Expired as over:
        told = f"before the limit {over.limit} was reached" if over.limit else "in time"
        return tool_message(part, f"Nobody answered {told}. Go on without an answer.", outcome="error")
    current_host().waits.enter(conversation, decided)
    answer = decided.answer
    return tool_message(part, answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))


def _read_call(part: ToolCallPart, terms: QuestionTerms) -> tuple[str, JsonSchema, str]:
    """Return the question, the schema of its answer, and what the model is told where the call makes no sense."""
    try:
        given: Any = json.loads(part.arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    question: Any = cast("dict[str, Any]", given).get("question") if isinstance(given, dict) else None
    if not isinstance(question, str) or not question.strip():
        return "", {}, f"Invalid arguments: call {part.name} with a text, as 'question'."
    if len(question) > _QUESTION_CHARS:
        return "", {}, f"The question has more than {_QUESTION_CHARS} characters: shorten it."
    choices: Any = cast("dict[str, Any]", given).get("choices")
    if terms.answer is None and choices:
        if not isinstance(choices, list) or not all(isinstance(each, str) for each in cast("list[Any]", choices)):
            return "", {}, f"Invalid arguments: 'choices' of {part.name} are texts."
        return question, {"type": "string", "enum": choices}, ""
    return question, _TEXT if terms.answer is None else terms.answer, ""
