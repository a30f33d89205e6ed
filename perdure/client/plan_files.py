"""Plans that people write: YAML or JSON, with the line of every fault. Client side; needs no server."""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import TimedeltaSchema

from perdure.agents.plans import check_plan
from perdure.contracts.limits import Limits
from perdure.contracts.plan import Plan, PlanAmendment, PlanFault, RetryWith, Task
from perdure.contracts.selection import SelectBy
from perdure.errors import InvalidInputError, suggest

Path = tuple[str | int, ...]

_POLICIES = "give fail, skip_dependents, continue, replan, or retry_with: AGENT"


class FileFault(BaseModel):
    """A fault of a plan, and where it is in the file."""

    model_config = ConfigDict(frozen=True)

    line: int
    """From 1."""
    message: str


class _Seconds(GenerateJsonSchema):
    """Durations are numbers of seconds, as the names of their keys say."""

    def timedelta_schema(self, schema: TimedeltaSchema) -> JsonSchemaValue:
        return {"type": "number"}


def read_plan(
    text: str, known_agents: Collection[str] | None, known_verifiers: Collection[str] | None = None
) -> tuple[Plan | None, list[FileFault]]:
    """Read a plan, and check it.

    Args:
        text: YAML or JSON.
        known_agents: Names of the agents that there are; None when that isn't known, and isn't checked.
        known_verifiers: Names of what can judge results, likewise.

    Returns:
        The plan, or None when there are faults; and every fault, by line.

    Raises:
        InvalidInputError: It is neither YAML nor JSON; says where. Not retryable.
    """
    value, root = _parse(text)
    faults = [*_repeated_keys(root), *_faults(value, known_agents, known_verifiers)]
    if not faults:
        return Plan.model_validate(value), []
    return None, _located(root, faults)


class AmendmentFile:
    """Changes to a plan at work, as somebody wrote them: `tasks:` to add or replace, `drop:` ids.

    Attributes:
        amendment: The changes; None when there are faults.
        faults: What is wrong with them by themselves, by line.

    Raises:
        InvalidInputError: It is neither YAML nor JSON; says where. Not retryable.
    """

    def __init__(self, text: str) -> None:
        """Read YAML or JSON."""
        value, self._root = _parse(text)
        found = [*_repeated_keys(self._root), *_amendment_faults(value)]
        self.amendment = None if found else PlanAmendment.model_validate(value)
        self.faults = self.locate(found)

    def locate(self, faults: Iterable[PlanFault]) -> list[FileFault]:
        """Return faults that a run told, by line."""
        return _located(self._root, faults)


def _located(root: yaml.Node | None, faults: Iterable[PlanFault]) -> list[FileFault]:
    found = [FileFault(line=_line(root, fault.path), message=fault.message) for fault in faults]
    return sorted(found, key=lambda fault: fault.line)


def _amendment_faults(value: Any) -> Iterator[PlanFault]:
    if not isinstance(value, dict):
        yield PlanFault(message="An amendment is an object with `tasks:` to add or replace, `drop:` ids, or both.")
        return
    given = cast("dict[Any, Any]", value)
    yield from _unknown_keys(given, _keys(PlanAmendment), (), "An amendment")
    tasks = given.get("tasks", [])
    if not isinstance(tasks, list):
        yield PlanFault(message="`tasks:` is a list: put a `-` before each.", path=("tasks",))
        tasks = []
    for index, item in enumerate(cast("list[Any]", tasks)):
        yield from _task_faults(index, item)
    try:
        PlanAmendment.model_validate({**given, "tasks": ()})
    except ValidationError:
        yield PlanFault(message="`drop:` is a list of ids of tasks.", path=("drop",))


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema of a plan, for editors: a key that a plan hasn't is marked."""
    schema = Plan.model_json_schema(schema_generator=_Seconds)
    for part in (schema, *schema["$defs"].values()):
        if part.get("type") == "object":
            part["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _parse(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the value, and the nodes that know their lines."""
    problem = None
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            problem = f"The plan is no JSON: {error}."
        else:
            return value, _nodes(text)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        return (None if root is None else loader.construct_document(root)), root
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(problem or f"The plan is no YAML: {_describe(error)}.") from None


def _nodes(text: str) -> yaml.Node | None:
    """Return the nodes of JSON: it is YAML but for tabs, which no string has, and a few odd characters."""
    try:
        return yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _describe(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _faults(
    value: Any, known_agents: Collection[str] | None, known_verifiers: Collection[str] | None
) -> Iterator[PlanFault]:
    if not isinstance(value, dict):
        yield PlanFault(message="A plan is an object with a list of tasks: `tasks:`, and a `-` before each.")
        return
    given = cast("dict[Any, Any]", value)
    yield from _unknown_keys(given, _keys(Plan), (), "A plan")
    yield from _header_faults(given)
    items = given.get("tasks")
    if not isinstance(items, list):
        yield PlanFault(message="A plan has a list of tasks: `tasks:`, and a `-` before each.", path=("tasks",))
        return
    tasks: list[Task] = []
    wrong: set[tuple[int, str | int]] = set()
    for index, item in enumerate(cast("list[Any]", items)):
        faults = list(_task_faults(index, item))
        yield from faults
        wrong.update((index, step) for fault in faults for step in fault.path[2:3])
        tasks.append(_stand_in(index, item) if faults else Task.model_validate(item))
        if not isinstance(item, dict):
            wrong.update((index, name) for name in _keys(Task))
    plan = Plan.model_construct(tasks=tuple(tasks), planner=_text(given.get("planner"), ""))
    for fault in check_plan(plan, known_agents, known_verifiers):
        is_told = len(fault.path) > 2 and fault.path[1:3] in wrong
        if not is_told or fault.path[2:] == ("needs",):
            yield fault


def _header_faults(given: dict[Any, Any]) -> Iterator[PlanFault]:
    try:
        Plan.model_validate({**given, "tasks": ()})
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            yield PlanFault(message=f"{_dotted(each)}: {each['msg']}.", path=each["loc"])


def _task_faults(index: int, item: Any) -> Iterator[PlanFault]:
    """Yield what is wrong with a task by itself."""
    where: Path = ("tasks", index)
    if not isinstance(item, dict):
        yield PlanFault(message=f"Task {index + 1} is no object with `id:` and `agent:`.", path=where)
        return
    given = cast("dict[Any, Any]", item)
    what = f"Task {given['id']!r}" if isinstance(given.get("id"), str) else f"Task {index + 1}"
    yield from _unknown_keys(given, _keys(Task), where, what)
    for key, keys in (("limits", _keys(Limits)), ("on_error", _keys(RetryWith)), ("select", _keys(SelectBy))):
        inner = given.get(key)
        if isinstance(inner, dict):
            yield from _unknown_keys(cast("dict[Any, Any]", inner), keys, (*where, key), f"{what}, {key}")
    try:
        Task.model_validate(given)
    except ValidationError as error:
        yield from _told(error, where, what)


def _told(error: ValidationError, where: Path, what: str) -> Iterator[PlanFault]:
    is_policy_told = False
    for each in error.errors(include_url=False, include_input=False):
        if each["loc"][:1] != ("on_error",):
            message = f"{what}, {_dotted(each)}: {each['msg'].replace('tuple', 'list')}."
            yield PlanFault(message=message, path=(*where, *each["loc"]))
        elif not is_policy_told:  # pydantic tells of each form that it might have had
            is_policy_told = True
            yield PlanFault(message=f"{what}, on_error: {_POLICIES}.", path=(*where, "on_error"))


def _unknown_keys(given: dict[Any, Any], keys: Collection[str], where: Path, what: str) -> Iterator[PlanFault]:
    for key in given:
        if key not in keys:
            message = f"{what} has no {str(key)!r}.{suggest(str(key), keys)}"
            yield PlanFault(message=message, path=(*where, str(key)))


def _stand_in(index: int, item: Any) -> Task:
    """Return what is right of a task that is wrong by itself, for what there is to check between tasks."""
    given = cast("dict[Any, Any]", item) if isinstance(item, dict) else {}
    policy: Any = given.get("on_error")
    other: Any = cast("dict[Any, Any]", policy).get("retry_with") if isinstance(policy, dict) else None
    return Task.model_construct(
        id=_text(given.get("id"), f"?{index}"),
        agent=_text(given.get("agent"), ""),
        input=_text(given.get("input"), ""),
        needs=_texts(given.get("needs")),
        on_error=RetryWith(retry_with=other) if isinstance(other, str) else "fail",
        verify=_text(given.get("verify"), ""),
        produces=_texts(given.get("produces")),
    )


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise


def _texts(value: Any) -> tuple[str, ...]:
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    return tuple(each for each in listed if isinstance(each, str))


def _keys(cls: type[BaseModel]) -> list[str]:
    return [field.serialization_alias or name for name, field in cls.model_fields.items()]


def _dotted(error: ErrorDetails) -> str:
    return ".".join(map(str, error["loc"]))


def _repeated_keys(root: yaml.Node | None) -> Iterator[PlanFault]:
    """Yield the keys that an object has twice; the parsers take the last, and say nothing."""
    waiting: list[tuple[yaml.Node | None, Path]] = [(root, ())]
    seen: set[int] = set()
    for node, path in waiting:  # grows as it goes
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend((each, (*path, index)) for index, each in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            names = [str(key.value) for key, _ in node.value]
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield PlanFault(message=f"The key {name!r} is given twice.", path=(*path, name))
            waiting.extend((value, (*path, str(key.value))) for key, value in node.value)


def _line(root: yaml.Node | None, path: Path) -> int:
    """Return the line of what a path leads to, or of what it should be in."""
    node, line = root, 0 if root is None else root.start_mark.line
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if str(key.value) == step]
            if not found:
                break
            key, node = found[-1]
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line + 1
