"""Judging a model's reply: can it be used, and does a structured output fit? Activity side; pure."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from perdure.agents.agent import Agent
from perdure.contracts.messages import Message
from perdure.contracts.spec import FINAL_OUTPUT_TOOL, AgentSpec, JsonSchema, OutputSpec

MAX_REPLY_BYTES = 1024 * 1024
"""Room to spare below Temporal's 2 MiB for an activity's result."""

_MAX_FAULTS = 10


def find_problem(spec: AgentSpec, agent: Agent | None, message: Message) -> str:
    """Return why a reply can't be used, in words for the model; empty when it can.

    Args:
        spec: What the run is pinned to.
        agent: The agent as declared today, whose type validates more than a schema can; None when gone.
        message: The reply.
    """
    if message.stop == "refusal":
        return ""
    calls = message.tool_calls
    final = next((call for call in calls if call.name == FINAL_OUTPUT_TOOL), None)
    if calls and final is None:
        return ""
    text = message.text if final is None else final.arguments
    if not text.strip():
        return "The reply was empty. Answer, or call a tool."
    return "" if spec.output is None else _find_output_problem(spec.output, agent, text)


def _find_output_problem(output: OutputSpec, agent: Agent | None, text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"The answer must be one JSON object and nothing else: {error}."
    faults = _validator(output, agent)(value)
    return f"The answer does not fit its schema: {'; '.join(faults[:_MAX_FAULTS])}." if faults else ""


def _validator(output: OutputSpec, agent: Agent | None) -> Callable[[Any], list[str]]:
    if agent is None or agent.output_spec != output:
        return lambda value: schema_faults(output.parameters, value)
    adapter = _adapter(agent)
    if not output.is_wrapped:
        return lambda value: _type_faults(adapter, value)
    return lambda value: _wrapping_faults(value) or _type_faults(adapter, value["value"])


def _wrapping_faults(value: Any) -> list[str]:
    is_wrapped = isinstance(value, dict) and "value" in value
    return [] if is_wrapped else ['answer: must be an object of one field, "value"']


@lru_cache(maxsize=500)
def _adapter(agent: Agent) -> TypeAdapter[Any]:
    return TypeAdapter(agent.output)


def _type_faults(adapter: TypeAdapter[Any], value: Any) -> list[str]:
    try:
        adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        return [
            f"{'.'.join(str(step) for step in fault['loc']) or 'answer'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
    return []


def schema_faults(schema: JsonSchema, value: Any) -> list[str]:
    """Return what in `value` does not fit a JSON schema."""
    from jsonschema import Draft202012Validator  # takes a quarter of a second, and few runs need it

    faults = Draft202012Validator(schema).iter_errors(value)  # pyright: ignore[reportUnknownMemberType]
    return [f"{fault.json_path.removeprefix('$.')}: {fault.message}"[:300] for fault in faults]
