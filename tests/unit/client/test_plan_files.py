"""Plans from files: what is read, and every fault with its line."""

import json
from contextlib import suppress

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perdure.client.plan_files import plan_schema, read_plan
from perdure.contracts.plan import Plan, RetryWith, Task
from perdure.errors import InvalidInputError

AGENTS = ("writer", "critic")
GOOD = """\
title: A report
max_parallel: 3
tasks:
  - id: draft
    agent: writer
    input: Write about tides.
    limits: {max_turns: 3, wall_clock_seconds: 60}
    on_error: {retry_with: critic}
  - id: judge
    agent: critic
    needs: [draft]
    on_error: continue
    input: |
      Judge this:
      {{draft}}
"""
BAD = """\
titel: A report
max_parallel: 900
tasks:
  - id: a
    agent: writr
    needs: [b, zz]
    on_error: {retry_with: critic, than: fail}
  - id: b
    agent: critic
    needs: a
    limits: {max_turn: 3}
  - id: c
    input: "{{a}} {{ q q }}"
    agent: writer
    agent: writer
  - just text
  - id: d
    on_error: bla
    input: 2024-01-01
  - id: e
    agent: critic
    needs:
      - d
      - f
  - {id: f, agent: critic, needs: [e]}
"""


def told(text: str, agents: tuple[str, ...] | None = AGENTS) -> list[tuple[int, str]]:
    plan, faults = read_plan(text, agents)
    assert (plan is None) == bool(faults)
    return [(fault.line, fault.message) for fault in faults]


def test_a_plan_is_read_from_yaml_and_json() -> None:
    plan, faults = read_plan(GOOD, AGENTS)
    assert faults == []
    assert plan is not None
    assert (plan.title, plan.max_parallel, plan.tasks[0].on_error) == (
        "A report",
        3,
        RetryWith(retry_with="critic"),
    )
    assert plan.tasks[1].input == "Judge this:\n{{draft}}\n"
    assert read_plan(json.dumps(yaml.safe_load(GOOD), indent="\t"), AGENTS) == (plan, [])


def test_every_fault_is_told_with_its_line() -> None:
    assert told(BAD) == [
        (1, "A plan has no 'titel'. Did you mean 'title'?"),
        (2, "max_parallel: Input should be less than or equal to 200."),
        (5, "Task 'a': there is no agent 'writr'. Did you mean 'writer'?"),
        (6, "Task 'a' needs 'zz', and there is no such task. Known: a, b, c, d, e, f."),
        (6, "Tasks wait for each other: a → b → a."),
        (7, "Task 'a', on_error has no 'than'. Did you mean 'then'?"),
        (10, "Task 'b', needs: Input should be a valid list."),
        (11, "Task 'b', limits has no 'max_turn'. Did you mean 'max_turns'?"),
        (
            13,
            "Task 'c': '{{ q q }}' is no reference: write {{task}} or {{task.field}}, "
            "and \\{{ for two plain braces.",
        ),
        (13, "Task 'c' refers to the result of 'a', which it does not need: add it to needs."),
        (15, "The key 'agent' is given twice."),
        (16, "Task 4 is no object with `id:` and `agent:`."),
        (17, "Task 'd', agent: Field required."),
        (18, "Task 'd', on_error: give fail, skip_dependents, continue, replan, or retry_with: AGENT."),
        (19, "Task 'd', input: Input should be a valid string."),
        (22, "Tasks wait for each other: e → f → e."),
    ]


def test_faults_of_json_have_their_lines_too() -> None:
    text = '{\n\t"tasks": [\n\t\t{"id": "a",\n\t\t "agent": "writr"},\n\t\t{"id": "a", "agent": "writer"}]}'
    assert told(text) == [
        (4, "Task 'a': there is no agent 'writr'. Did you mean 'writer'?"),
        (5, "There are several tasks 'a': rename all but one."),
    ]


def test_how_an_agent_is_chosen_is_checked() -> None:
    task = "tasks:\n- id: a\n  agent: auto\n  candidates: [writer]\n  select:\n    strategy: {}\n    tags: [x]\n"
    assert told(task.format("learned")) == []
    assert told(task.format("luck")) == [
        (6, "Task 'a', select.strategy: Input should be 'rules', 'model' or 'learned'.")
    ]
    assert told(task.format("rules").replace("tags", "tag").replace("[writer]", "[writr]")) == [
        (7, "Task 'a', select has no 'tag'. Did you mean 'tags'?")
    ]


def test_agents_are_not_checked_where_they_are_not_known() -> None:
    assert told(GOOD.replace("critic", "anybody"), None) == []


@pytest.mark.parametrize("text", ["", "[]", "text", "tasks:", "tasks: 3", "{}"])
def test_what_is_no_plan(text: str) -> None:
    ((_, message),) = told(text)
    assert "a list of tasks" in message


def test_a_plan_without_tasks() -> None:
    assert told("title: x\ntasks: []") == [(2, "The plan has no tasks.")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{\n"tasks": [}', "The plan is no JSON: Expecting value: line 2 column 11"),
        ("a: [1\nb: 2", "The plan is no YAML: line 2, column 2: expected ',' or ']'"),
        ("a: 2024-13-45", "The plan is no YAML: month must be in 1..12"),
        ("a: !!python/object:x {}", "could not determine a constructor"),
        ("a: \x07", "The plan is no YAML"),
        ("a: 1\n---\nb: 2", "The plan is no YAML"),
    ],
)
def test_what_can_not_be_parsed_says_where(text: str, problem: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        read_plan(text, AGENTS)
    assert problem in raised.value.message


def test_an_anchor_that_holds_itself_does_no_harm() -> None:
    assert told("tasks: &a [*a]")


@given(st.text(alphabet=st.sampled_from("tasks:id agent\n- []{}\"'&*!|>,#\t0a"), max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    with suppress(InvalidInputError):
        read_plan(text, AGENTS)


def test_the_schema_takes_good_plans_and_no_others() -> None:
    validator = jsonschema.Draft202012Validator(plan_schema())
    validator.check_schema(plan_schema())
    assert validator.is_valid(yaml.safe_load(GOOD))
    assert validator.is_valid(json.loads(Plan(tasks=(Task(id="a", agent="b"),)).to_bytes()))
    assert not validator.is_valid({"tasks": [{"id": "a", "agent": "b", "need": []}]})
    assert not validator.is_valid(yaml.safe_load(BAD))
