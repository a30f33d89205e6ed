"""`@tool`: what the model is shown of a function, and the functions and options that can't be used."""

import asyncio
import functools
import json
import threading
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Optional

import httpx
import pytest
from pydantic import BaseModel, Field, ValidationError

from perdure import Tool, ToolContext, tool
from perdure.agents.tool import describe_invalid_arguments
from perdure.contracts.messages import BlobRef
from perdure.errors import InvalidNameError, InvalidToolError
from tests.unit.agents import guarded


class Place(BaseModel):
    city: str
    """Where."""
    country: str = "SE"


def context() -> ToolContext:
    return ToolContext(
        idempotency_key="key",
        workflow_id="w",
        tool="t",
        http=httpx.AsyncClient(),
        heartbeat=lambda: None,
        put_blob=lambda data: BlobRef(digest="sha256:0", size_bytes=len(data)),
    )


def properties(made: Tool) -> dict[str, Any]:
    return made.spec.parameters["properties"]


def test_what_the_model_is_shown() -> None:
    @tool
    def weather(place: Place, day: Literal["today", "tomorrow"] = "today", *, detail: int | None = None) -> str:
        """Say the weather.

        Knows two days.

        Args:
            place: Where it is asked for,
                in words.
            day: Which day.

        Returns:
            A sentence.
        """
        raise NotImplementedError

    assert weather.spec.name == "weather"
    assert weather.spec.description == "Say the weather.\n\nKnows two days."
    parameters = weather.spec.parameters
    assert parameters["type"] == "object"
    assert parameters["required"] == ["place"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["day"] == {
        "default": "today",
        "description": "Which day.",
        "enum": ["today", "tomorrow"],
        "type": "string",
    }
    assert parameters["properties"]["detail"]["default"] is None
    assert parameters["properties"]["place"]["description"] == "Where it is asked for,\nin words."
    assert parameters["$defs"]["Place"]["required"] == ["city"]


NUMPY = """Search.

Parameters
----------
query : str
    What to look for.
"""


@pytest.mark.parametrize(
    "doc", ["Search.\n\nArgs:\n    query: What to look for.", "Search.\n\n:param query: What to look for.", NUMPY]
)
def test_docstring_styles(doc: str) -> None:
    def search(query: str) -> str:
        raise NotImplementedError

    search.__doc__ = doc
    made = tool(search)
    assert made.spec.description == "Search."
    assert properties(made) == {"query": {"type": "string", "description": "What to look for."}}


def test_a_function_without_a_docstring_has_no_description() -> None:
    @tool
    def search(query: str) -> str:
        raise NotImplementedError

    assert search.spec.description == ""
    assert properties(search) == {"query": {"type": "string"}}


def test_types_say_more_by_annotation() -> None:
    @tool
    def pay(
        amount: Annotated[int, Field(ge=1, description="In cents.")],
        currency: Annotated[str, Field(description="ISO 4217.")] = "EUR",
        note: str = Field(default="-", max_length=20, description="For the receipt."),
        on: Optional[date] = None,  # noqa: UP045 - people write it
    ) -> str:
        """Pay."""
        raise NotImplementedError

    shown = properties(pay)
    assert shown["amount"] == {"type": "integer", "minimum": 1, "description": "In cents."}
    assert shown["currency"] == {"type": "string", "default": "EUR", "description": "ISO 4217."}
    assert shown["note"]["description"] == "For the receipt."
    assert {"type": "string", "format": "date"} in shown["on"]["anyOf"]
    assert pay.spec.parameters["required"] == ["amount"]
    assert pay.bind({"amount": 5, "on": "2026-01-02"}) == {
        "amount": 5,
        "currency": "EUR",
        "note": "-",
        "on": date(2026, 1, 2),
    }


def test_titles_go_and_values_stay() -> None:
    @tool
    def edit(title: str, document: dict[str, str] = {"title": "Untitled"}) -> str:  # noqa: B006
        """Edit."""
        raise NotImplementedError

    assert properties(edit)["title"] == {"type": "string"}
    assert properties(edit)["document"]["default"] == {"title": "Untitled"}


def test_parameters_may_be_called_like_methods_of_pydantic() -> None:
    @tool
    def query(schema: str, json: str, copy: bool = False, model_fields_set: int = 0) -> str:
        """Query."""
        raise NotImplementedError

    assert list(properties(query)) == ["schema", "json", "copy", "model_fields_set"]
    bound = query.bind({"schema": "s", "json": "j", "model_fields_set": 3})
    assert bound == {"schema": "s", "json": "j", "copy": False, "model_fields_set": 3}


def hidden_plain(ctx: ToolContext, query: str) -> str:
    """Search."""
    return f"{query} {ctx.idempotency_key}"


def hidden_optional(query: str, ctx: ToolContext | None = None) -> str:
    """Search."""
    return f"{query} {ctx.idempotency_key if ctx else '-'}"


async def hidden_annotated(query: str, *, context: Annotated[ToolContext, "ours"]) -> str:
    """Search."""
    return f"{query} {context.idempotency_key}"


@pytest.mark.parametrize("function", [hidden_plain, hidden_optional, hidden_annotated])
async def test_the_context_is_given_and_not_shown(function: Callable[..., Any]) -> None:
    made = tool(function)
    assert list(properties(made)) == ["query"]
    assert await made.run(made.bind({"query": "x"}), context()) == "x key"
    with pytest.raises(ValidationError, match="Extra inputs"):
        made.bind({"query": "x", "ctx": {}})


def test_a_context_that_is_imported_for_type_checkers_alone() -> None:
    made = tool(guarded.book)
    assert list(properties(made)) == ["day"]
    assert not hasattr(guarded, "ToolContext")


def test_a_method_is_a_tool_without_self() -> None:
    class Shop:
        def buy(self, item: str) -> str:
            """Buy."""
            return item

    made = tool(Shop().buy)
    assert (made.name, list(properties(made))) == ("buy", ["item"])


def test_a_tool_is_still_the_function() -> None:
    @tool(name="adder")
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    assert add(1, b=2) == 3
    assert (add.__name__, add.__doc__, repr(add)) == ("adder", "Add.", "Tool('adder')")


async def test_an_async_tool_is_still_the_coroutine_function() -> None:
    @tool
    async def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert await add(1, 2) == 3
    assert await add.run({"a": 1, "b": 2}, context()) == 3


async def test_a_plain_function_runs_in_a_thread() -> None:
    @tool
    def where() -> bool:
        """Say whether this is the main thread."""
        return threading.current_thread() is threading.main_thread()

    assert await where.run({}, context()) is False


async def test_a_decorated_coroutine_function_is_awaited() -> None:
    async def add(a: int, b: int) -> int:
        """Add."""
        await asyncio.sleep(0)
        return a + b

    @functools.wraps(add)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[int]:
        return add(*args, **kwargs)

    made = tool(wrapper)
    assert list(properties(made)) == ["a", "b"]
    assert await made.run({"a": 1, "b": 2}, context()) == 3


def takes_anything(*args: str) -> None: ...
def takes_names(**kwargs: str) -> None: ...
def positional(a: int, /) -> None: ...
def unannotated(a) -> None: ...  # type: ignore
def unknown(a: "Nowhere") -> None: ...  # type: ignore # noqa: F821
def missing_attribute(a: "json.nope") -> None: ...  # type: ignore
def no_expression(a: "not a type") -> None: ...  # type: ignore # noqa: F722
def no_type(a: 3) -> None: ...  # type: ignore
def callback(a: Callable[[int], int]) -> None: ...
def underscored(_a: int) -> None: ...
def takes_config(model_config: str) -> None: ...
def takes_dump(model_dump: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (takes_anything, r"Tool 'takes_anything': parameter \*args.* can't be given by name"),
        (takes_names, r"parameter \*\*kwargs.* can't be given by name"),
        (positional, "can't be given by name"),
        (unannotated, "annotate parameter 'a' with its type"),
        (unknown, "name 'Nowhere' is not defined; annotate it with names that exist"),
        (guarded.needs_date, "name 'date' is not defined"),
        (missing_attribute, "no attribute 'nope'"),
        (no_expression, "not a type"),
        (no_type, "no JSON schema can be made"),
        (callback, "no JSON schema can be made"),
        (underscored, "leading underscores"),
        (takes_config, "'model_config': rename it"),
        (takes_dump, "model_dump"),
        (max, "no signature found"),
        (dict, "is no function"),
        (functools.partial(positional, 1), "is no function"),
    ],
)
def test_functions_that_can_not_be_tools(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(InvalidToolError, match=said):
        tool(function)


def nothing() -> None:
    """Do nothing."""


def test_defaults_of_a_policy() -> None:
    spec = tool(nothing).spec
    assert (spec.timeout, spec.max_attempts) == (timedelta(minutes=5), 1)
    assert tool(idempotent=True)(nothing).spec.max_attempts == 3
    assert tool(idempotent=True, local=True)(nothing).spec.timeout == timedelta(seconds=5)
    assert spec.max_result_bytes == 256 * 1024
    assert (spec.idempotent, spec.local, spec.needs_approval, spec.cache) == (False, False, False, None)


def test_a_policy() -> None:
    made = tool(
        name="renamed",
        description="Said otherwise.",
        idempotent=True,
        timeout=timedelta(seconds=7),
        max_attempts=9,
        max_result_bytes=10,
        cache="shared",
        ttl=timedelta(hours=1),
        needs_approval=True,
    )(nothing)
    spec = made.spec
    assert (spec.name, spec.description, spec.cache) == ("renamed", "Said otherwise.", "shared")
    assert (spec.timeout.seconds, spec.max_attempts, spec.max_result_bytes) == (7, 9, 10)
    assert spec.needs_approval


def test_an_empty_description_is_a_description() -> None:
    assert tool(description="")(nothing).spec.description == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"local": True}, "local needs idempotent=True"),
        ({"local": True, "idempotent": True, "timeout": timedelta(seconds=11)}, "at most 10 seconds"),
        ({"cache": "run"}, "cache needs idempotent=True"),
        ({"max_attempts": 2}, "max_attempts above 1 needs idempotent=True"),
        ({"max_attempts": 0}, "max_attempts is from 1 to 100"),
        ({"max_attempts": 101, "idempotent": True}, "max_attempts is from 1 to 100"),
        ({"timeout": timedelta(0)}, "timeout must be positive"),
        ({"timeout": timedelta(seconds=-1)}, "timeout must be positive"),
        ({"max_result_bytes": 0}, "max_result_bytes is from 1 to 50,000,000"),
        ({"max_result_bytes": 50_000_001}, "max_result_bytes is from 1 to 50,000,000"),
    ],
)
def test_options_that_can_not_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidToolError, match=f"Tool 'nothing': .*{said}"):
        tool(**options)(nothing)


@pytest.mark.parametrize("name", ["final_output", "a b", "", "perdure_x"])
def test_names_that_can_not_be(name: str) -> None:
    with pytest.raises(InvalidNameError, match="Tool name"):
        tool(name=name)(nothing)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(InvalidNameError):
        tool(lambda: 1)
    assert tool(name="one")(lambda: 1).name == "one"


def test_invalid_arguments_are_told_without_what_was_given() -> None:
    @tool
    def search(place: Place, limit: int) -> str:
        """Search."""
        raise NotImplementedError

    with pytest.raises(ValidationError) as caught:
        search.bind({"place": {"country": "DE"}, "limit": "sk-secret", "more": 1})
    told = describe_invalid_arguments(caught.value)
    assert told.startswith("Invalid arguments. place.city: Field required; limit: Input should be a valid integer")
    assert "more: Extra inputs" in told
    assert "sk-secret" not in told


def test_a_long_list_of_faults_is_cut() -> None:
    @tool
    def add(numbers: list[int]) -> int:
        """Add."""
        raise NotImplementedError

    with pytest.raises(ValidationError) as caught:
        add.bind({"numbers": ["x"] * 50})
    assert describe_invalid_arguments(caught.value).count(";") == 9
