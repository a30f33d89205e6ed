"""`ask_human_tool`: a tool with which an agent asks people. Both sides; it is data, and calls nothing."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from perdure.agents._names import check_name
from perdure.contracts.spec import JsonSchema, ToolSpec
from perdure.contracts.waits import QuestionTerms
from perdure.errors import InvalidToolError

_DESCRIPTION = (
    "Ask a person a question, and wait for the answer. It may take hours: ask only what you can't find out."
)
_QUESTION: JsonSchema = {"type": "string", "description": "What is asked, with all that the person must know."}
_CHOICES: JsonSchema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "The answers that are possible; leave it out for an open question.",
}


@dataclass(frozen=True, eq=False)
class HumanTool:
    """A tool whose calls a person answers. Made by `ask_human_tool`."""

    spec: ToolSpec

    @property
    def name(self) -> str:
        """The name that the model sees."""
        return self.spec.name


def ask_human_tool(
    *,
    name: str = "ask_human",
    description: str = _DESCRIPTION,
    output: Any = str,
    timeout: timedelta | None = None,
    group: str = "",
) -> HumanTool:
    """Return a tool with which an agent asks people; a call waits without a worker.

    Args:
        name: What the model calls it.
        description: What the model is told.
        output: The type of the answers: what doesn't fit is refused. With text the model may offer choices.
        timeout: After which the model is told that nobody answered; no end when None.
        group: Whom it is for: what `perdure inbox --group` looks for.

    Raises:
        InvalidNameError, InvalidToolError: The name, or an option, can't be used. Not retryable.
    """
    check_name("Tool", name)
    if timeout is not None and timeout <= timedelta(0):
        raise InvalidToolError(f"Tool {name!r}: timeout must be positive.")
    try:
        answer = None if output is str else TypeAdapter(output).json_schema()
    except PydanticUserError as error:
        raise InvalidToolError(f"Tool {name!r}: output {output!r}: {str(error).splitlines()[0]}") from None
    properties = {"question": _QUESTION} if answer is not None else {"question": _QUESTION, "choices": _CHOICES}
    return HumanTool(
        ToolSpec(
            name=name,
            description=description,
            parameters={
                "type": "object",
                "properties": properties,
                "required": ["question"],
                "additionalProperties": False,
            },
            read_only=True,
            question=QuestionTerms(answer=answer, group=group, timeout=timeout),
        )
    )
