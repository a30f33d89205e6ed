"""Agents, and the mistakes in them that are found when they are declared."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

import jsonschema
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from perdure import Agent, Limits, ModelSettings, tool
from perdure.agents._names import check_name
from perdure.agents.registry import Registry
from perdure.contracts.spec import OutputSpec
from perdure.contracts.texts import one_line
from perdure.errors import (
    DuplicateNameError,
    InvalidNameError,
    InvalidToolError,
    UnknownAgentError,
    UnknownModelError,
    UnknownToolError,
)

T = TypeVar("T")


@tool
def search(query: str) -> str:
    """Search."""
    return query


def plain(query: str) -> str:
    """Not decorated."""
    return query


def make(name: str = "worker", **options: Any) -> Agent:
    options.setdefault("model", "offline:x")
    return Agent(name, **options)


@pytest.mark.parametrize("name", ["a", "Research-Agent_2", "x" * 64])
def test_names_that_can_be_used(name: str) -> None:
    check_name("Agent", name)
    assert make(name).name == name


@pytest.mark.parametrize("name", ["", "2fast", "a b", "naïve", "a.b", "-a", "x" * 65, "a\n"])
def test_names_that_no_vendor_takes(name: str) -> None:
    with pytest.raises(InvalidNameError, match="start with a letter"):
        make(name)


@pytest.mark.parametrize(
    "name",
    ["final_output", "AgentWorkflow", "PlanWorkflow", "MapWorkflow", "MapNode", "perdure", "Perdure_agent"],
)
def test_names_that_perdure_needs(name: str) -> None:
    with pytest.raises(InvalidNameError, match="reserved"):
        make(name)


@pytest.mark.parametrize(
    ("text", "shown"), [(" a\n b ", "a b"), ("x" * 8, "x" * 8), ("x" * 9, "x" * 7 + "…"), ("", "")]
)
def test_one_line(text: str, shown: str) -> None:
    assert one_line(text, 8) == shown


def test_a_declaration() -> None:
    agent = make(tools=[search, plain], model=["openai:gpt-5", "anthropic:claude"])
    assert agent.models == ("openai:gpt-5", "anthropic:claude")
    assert [each.name for each in agent.own_tools] == ["search", "plain"]
    assert agent.own_tools[0] is search
    assert [spec.name for spec in agent.tool_specs] == ["search", "plain"]
    assert agent.output_spec is None
    assert (agent.limits, agent.settings, agent.on_limit) == (Limits(), ModelSettings(), "finish")


def test_an_agent_is_frozen_hashable_and_keeps_its_instructions_to_itself() -> None:
    agent = make(instructions="a long text")
    with pytest.raises(FrozenInstanceError):
        agent.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
    assert {agent: 1}[agent] == 1
    assert "a long text" not in repr(agent)


@pytest.mark.parametrize("model", ["gpt-5", ":gpt-5", "openai:", "", ["openai:gpt-5", "gpt"]])
def test_a_model_needs_a_provider(model: Any) -> None:
    with pytest.raises(UnknownModelError, match="write 'provider:model'"):
        make(model=model)


def test_an_agent_needs_a_model() -> None:
    with pytest.raises(UnknownModelError, match="has no model"):
        make(model=[])


def test_two_tools_of_one_name() -> None:
    with pytest.raises(DuplicateNameError, match="agent 'worker' has two tools named 'search'"):
        make(tools=[search, tool(name="search")(plain)])


@pytest.mark.parametrize("given", [3, "search", None])
def test_a_tool_that_is_none(given: Any) -> None:
    with pytest.raises(InvalidToolError, match=r"Agent 'worker': .* is no tool"):
        make(tools=[given])


def test_agents_share_tools_and_plain_functions() -> None:
    registry = Registry([make("one", tools=[search, plain]), make("two", tools=[search, plain])], [search])
    assert sorted(registry.tools) == ["plain", "search"]


def test_different_tools_of_one_name() -> None:
    for other in (tool(name="search")(plain), tool(idempotent=True)(search.__call__.__self__._function)):
        with pytest.raises(DuplicateNameError, match="two different tools named 'search'"):
            Registry([make(tools=[search])], [other])


def test_two_agents_of_one_name() -> None:
    with pytest.raises(DuplicateNameError, match="two agents named 'worker'"):
        Registry([make(), make()])


def test_lookups_suggest_the_nearest() -> None:
    registry = Registry([make(tools=[search])])
    assert registry.agent("worker") is registry.agents["worker"]
    assert registry.tool("search") is search
    with pytest.raises(UnknownAgentError, match=r"no agent 'wroker'\. Did you mean 'worker'\?"):
        registry.agent("wroker")
    with pytest.raises(UnknownToolError, match=r"no tool 'delete'\. Known: search\."):
        registry.tool("delete")


class Report(BaseModel):
    title: str = Field(title="The title")
    score: float = 0


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    name: str


class Color(Enum):
    RED = "red"


class Node(BaseModel):
    children: list["Node"] = []


class Page(BaseModel, Generic[T]):
    items: list[T]


OUTPUTS: list[tuple[Any, bool, Any, Any]] = [
    (Report, False, {"title": "x", "score": 1}, {"score": 1}),
    (Point, False, {"x": 1}, {"y": 1}),
    (Row, False, {"name": "x"}, {}),
    (dict[str, int], False, {"a": 1}, {"a": "b"}),
    (Page[int], False, {"items": [1]}, {"items": ["x"]}),
    (list[int], True, {"value": [1]}, {"value": ["x"]}),
    (list[Report], True, {"value": [{"title": "x"}]}, {"value": [{}]}),
    (int | None, True, {"value": None}, {"value": "x"}),
    (Report | Point, True, {"value": {"x": 1}}, {"value": 3}),
    (Color, True, {"value": "red"}, {"value": "blue"}),
    (Literal["a", "b"], True, {"value": "a"}, {"value": "c"}),
    (bool, True, {"value": True}, {"value": "x"}),
    (Node, True, {"value": {"children": [{"children": []}]}}, {"value": {"children": [3]}}),
]


@pytest.mark.parametrize(("output", "is_wrapped", "good", "bad"), OUTPUTS, ids=lambda each: str(each)[:30])
def test_an_output_type_is_an_object_for_the_vendor(output: Any, is_wrapped: bool, good: Any, bad: Any) -> None:
    spec = make(output=output).output_spec
    assert isinstance(spec, OutputSpec)
    assert spec.is_wrapped == is_wrapped
    assert json.loads(spec.to_bytes())["parameters"] == spec.parameters
    jsonschema.validate(good, spec.parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, spec.parameters)


def test_an_output_is_named_after_its_type() -> None:
    names = [make(output=each).output_spec for each in (Report, list[int], int | str)]
    assert [spec.name for spec in names if spec] == ["Report", "list", "output"]


def test_generated_titles_are_left_out_and_fields_of_that_name_are_not() -> None:
    spec = make(output=Report).output_spec
    assert spec is not None
    assert spec.parameters["properties"]["title"] == {"type": "string"}
    assert "title" not in spec.parameters


@pytest.mark.parametrize("output", [object(), Callable[[int], int]], ids=["object", "callable"])
def test_an_output_type_without_a_schema(output: Any) -> None:
    with pytest.raises(InvalidToolError, match="Output type"):
        make(output=output)
