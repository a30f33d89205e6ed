"""Errors cross activity, workflow, client and process boundaries, and stay what they are."""

import inspect
import pickle
import re
from datetime import timedelta
from typing import Any, get_args

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from perdure import errors
from perdure.errors import (
    AgentBug,
    CallError,
    ConversationUnavailableError,
    LimitExceeded,
    ModelCallError,
    ModelErrorKind,
    PerdureError,
    ProjectLoadError,
    RunError,
    ToolError,
    UserError,
    revive,
    suggest,
)

CLASSES = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, PerdureError)]
CONCRETE = [each for each in CLASSES if each is not PerdureError]
TREE = (errors.__doc__ or "").split("```")[1].strip()
every_error = pytest.mark.parametrize("cls", CONCRETE, ids=lambda cls: cls.__name__)


async def through_temporal(error: BaseException) -> BaseException:
    """Return what the other side gets, before `revive`."""
    failure = Failure()
    await pydantic_data_converter.encode_failure(error, failure)
    return await pydantic_data_converter.decode_failure(Failure.FromString(failure.SerializeToString()))


def facts(error: BaseException) -> tuple[Any, ...]:
    assert isinstance(error, PerdureError)
    return (
        type(error),
        error.message,
        error.type,
        error.attributes,
        error.non_retryable,
        error.next_retry_delay,
        list(error.details),
    )


def model_error(**options: Any) -> ModelCallError:
    return ModelCallError("busy", kind="rate_limited", status_code=429, may_be_billed=True, **options)


EXAMPLES: list[PerdureError] = [
    *(cls("what happened") for cls in CONCRETE),
    LimitExceeded("reached", limit="max_turns=3", partial="so far"),
    ToolError("again", is_retryable=True, next_retry_delay=timedelta(seconds=2), tool="search"),
    ToolError("no", tool="search"),
    UserError("odd", context={"a": [1, None]}),
    model_error(retry_after_seconds=1.5),
    model_error(retry_after_seconds=1.5).delayed(timedelta(seconds=3)),
    model_error().as_last_of(6),
    ModelCallError("no key", kind="fatal", status_code=401),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
async def test_it_is_revived_on_the_other_side(error: PerdureError) -> None:
    arrived = await through_temporal(error)
    assert type(arrived) is ApplicationError
    assert facts(revive(arrived)) == facts(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_it_pickles(error: PerdureError) -> None:
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)


async def test_a_model_error_keeps_its_fields() -> None:
    revived = revive(await through_temporal(model_error(retry_after_seconds=1.5)))
    assert isinstance(revived, ModelCallError)
    assert (revived.kind, revived.status_code, revived.may_be_billed) == ("rate_limited", 429, True)
    assert revived.retry_after == timedelta(seconds=1.5)


async def test_the_cause_is_kept() -> None:
    try:
        raise AgentBug("broke") from ValueError("inner")
    except AgentBug as error:
        revived = revive(await through_temporal(error))
    assert isinstance(revived.__cause__, ApplicationError)
    assert revived.__cause__.type == "ValueError"


async def test_attributes_of_a_later_release_are_left_out() -> None:
    details = {"kind": "fatal", "status_code": 400, "request_id": "of a later release"}
    revived = revive(ApplicationError("no", details, type="ModelCallError", non_retryable=True))
    assert isinstance(revived, ModelCallError)
    assert (revived.kind, revived.status_code, revived.non_retryable) == ("fatal", 400, True)


@pytest.mark.parametrize(
    "details", [(), ("text",), ({"message": "m", "is_retryable": 3, "next_retry_delay": "x"},), (None, 2)]
)
def test_details_of_somebody_elses_error_do_no_harm(details: tuple[Any, ...]) -> None:
    revived = revive(ApplicationError("theirs", *details, type="ServerError"))
    assert isinstance(revived, PerdureError)
    assert (revived.message, revived.attributes) == ("theirs", {})


def test_an_error_that_only_looks_like_ours_is_left_alone() -> None:
    theirs = ApplicationError("theirs", {"retry_after_seconds": "soon"}, type="ModelCallError")
    assert revive(theirs) is theirs


@pytest.mark.parametrize(
    "error", [ValueError("x"), ApplicationError("x", type="TheirError"), ApplicationError("x"), AgentBug("x")]
)
def test_what_is_not_ours_or_is_alive_is_returned(error: BaseException) -> None:
    assert revive(error) is error


@every_error
def test_retryable_is_what_the_documentation_says(cls: type[PerdureError]) -> None:
    (line,) = [line for line in TREE.splitlines() if re.search(rf"\b{cls.__name__}\b", line)]
    assert cls("x").non_retryable == ("retryable" not in line or "never retryable" in line)


@pytest.mark.parametrize("family", [UserError, RunError])
def test_mistakes_and_outcomes_are_never_retryable(family: type[PerdureError]) -> None:
    members = [cls for cls in CONCRETE if issubclass(cls, family)]
    assert len(members) > 5
    assert all(cls("x").non_retryable for cls in members)


@pytest.mark.parametrize("kind", get_args(ModelErrorKind))
def test_a_model_error_is_retryable_by_its_kind(kind: ModelErrorKind) -> None:
    assert ModelCallError("x", kind=kind).non_retryable == (kind in ("fatal", "context_too_long"))
    assert ModelCallError("x", kind=kind).as_last_of(3).non_retryable


def test_giving_up_says_after_how_many_attempts() -> None:
    last = model_error(retry_after_seconds=9).as_last_of(3)
    assert last.message == "busy (gave up after 3 attempts)"
    assert (last.attempts, last.kind, last.status_code, last.next_retry_delay) == (3, "rate_limited", 429, None)


@pytest.mark.parametrize(("asked", "delay", "waits"), [(None, 2, 2), (1.5, 2, 2), (60, 2, 60)])
def test_a_delay_is_never_shorter_than_what_the_vendor_asked_for(
    asked: float | None, delay: float, waits: float
) -> None:
    delayed = model_error(retry_after_seconds=asked).delayed(timedelta(seconds=delay))
    assert delayed.next_retry_delay == delayed.retry_after == timedelta(seconds=waits)
    assert (delayed.kind, delayed.status_code, delayed.may_be_billed) == ("rate_limited", 429, True)


def test_a_conversation_is_looked_for_again_soon() -> None:
    assert ConversationUnavailableError("x").next_retry_delay == timedelta(seconds=2)
    assert issubclass(ConversationUnavailableError, CallError)


def test_a_project_that_does_not_load_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="not there"):
        raise ProjectLoadError("not there")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in TREE.splitlines():
        names, column = re.findall(r"[A-Z]\w+(?=,|  |$)", line), len(line) - len(line.lstrip("│├└─ "))
        path = [entry for entry in path if entry[0] < column]
        drawn.update({name: path[-1][1] if path else "" for name in names[:2] if name in vars(errors)})
        path.append((column, names[0]))
    bases = {cls.__name__: cls.__bases__[0].__name__ for cls in CONCRETE}
    assert drawn == {"PerdureError": "", **bases}


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("workr", ["worker", "other"], " Did you mean 'worker'?"),
        ("zzz", ["worker", "other"], " Known: other, worker."),
        ("zzz", [], ""),
    ],
)
def test_suggestions(name: str, known: list[str], said: str) -> None:
    assert suggest(name, known) == said


@pytest.mark.parametrize("error", [AgentBug("it broke"), LimitExceeded("too much", limit="max_turns=1")])
async def test_who_tells_of_an_error_is_told_on_the_other_side(error: PerdureError) -> None:
    told = revive(await through_temporal(error.told_by("agent 'a': ", agent="a", workflow_id="w")))
    assert type(told) is type(error)
    assert isinstance(told, PerdureError)
    assert told.message == f"agent 'a': {error.message}"
    assert told.attributes == {**error.attributes, "agent": "a", "workflow_id": "w"}


def test_an_error_with_attributes_of_its_own_takes_no_others() -> None:
    told = ModelCallError("no", kind="fatal", status_code=401).told_by("agent 'a': ", agent="a")
    assert (told.message, told.attributes["status_code"]) == ("agent 'a': no", 401)
    assert told.non_retryable
