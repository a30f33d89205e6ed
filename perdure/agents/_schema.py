"""JSON schemas from Python types and signatures, by pydantic. Both sides."""

import inspect
import warnings
from collections.abc import Callable
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from perdure.contracts.spec import JsonSchema, OutputSpec
from perdure.errors import InvalidToolError

_DATA = ("default", "const", "enum", "examples")
"""What a schema holds of values; they are not schemas."""


class Signature:
    """What a function takes: a model of its arguments, and the parameter that gets the context.

    Attributes:
        arguments: A pydantic model with a field for each parameter but the context's.
        context_parameter: The parameter annotated with the context type, if there is one.
        description: The docstring without its sections.
    """

    def __init__(self, function: Callable[..., Any], context_type: type) -> None:
        """Read `function`; raise InvalidToolError where no schema can be made of it."""
        name = getattr(function, "__name__", repr(function))
        if not inspect.isroutine(function):
            raise InvalidToolError(f"{function!r} is no function: make a tool of one that calls it.")
        try:
            hints = _type_hints(function, context_type)
            parameters = inspect.signature(function).parameters.values()
        except (NameError, AttributeError, SyntaxError, TypeError, ValueError) as error:
            raise InvalidToolError(f"Tool {name!r}: {error}; annotate it with names that exist.") from None
        doc = parse_docstring(inspect.getdoc(function) or "")
        self.description = (doc.description or "").strip()
        self.context_parameter: str | None = None
        documented = {param.arg_name: param.description or "" for param in doc.params}
        fields: dict[str, Any] = {}
        for parameter in parameters:
            if _is_context(hints.get(parameter.name), context_type):
                self.context_parameter = parameter.name
                continue
            fields[parameter.name] = _field(name, parameter, hints, documented.get(parameter.name))
        self.arguments, self._schema = _make_model(name, fields)

    def schema(self) -> JsonSchema:
        """Return the JSON schema of the arguments."""
        return self._schema


def _type_hints(function: Callable[..., Any], context_type: type) -> dict[str, Any]:
    """Return the parameters' types; the context's is known even where only type checkers import it."""
    annotations: dict[str, Any] = getattr(function, "__annotations__", {})
    shown = SimpleNamespace(__annotations__={k: v for k, v in annotations.items() if k != "return"})
    known = getattr(inspect.unwrap(function), "__globals__", {})
    return get_type_hints(shown, {context_type.__name__: context_type, **known}, include_extras=True)


def _is_context(hint: Any, context_type: type) -> bool:
    if get_origin(hint) in (Annotated, Union, UnionType):
        return any(_is_context(each, context_type) for each in get_args(hint))
    return hint is context_type


def _field(
    tool: str, parameter: inspect.Parameter, hints: dict[str, Any], description: str | None
) -> tuple[Any, Any]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if parameter.kind not in kinds:
        raise InvalidToolError(f"Tool {tool!r}: parameter {parameter} can't be given by name.")
    if parameter.name not in hints:
        raise InvalidToolError(f"Tool {tool!r}: annotate parameter {parameter.name!r} with its type.")
    if parameter.name == "model_config":
        raise InvalidToolError(f"Tool {tool!r}: pydantic has no room for a parameter 'model_config': rename it.")
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    if isinstance(default, FieldInfo):
        return hints[parameter.name], default
    described: dict[str, Any] = {"description": description} if description else {}
    return hints[parameter.name], Field(default=default, **described)


def _make_model(name: str, fields: dict[str, Any]) -> tuple[type[BaseModel], JsonSchema]:
    try:
        with warnings.catch_warnings():
            # Parameters may well be called `json` or `schema`: nobody calls these methods of the model.
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
            model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        return model, _untitled(model.model_json_schema())
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidToolError(f"Tool {name!r}: no JSON schema can be made of its signature: {reason}") from None


def output_spec(output: Any) -> OutputSpec | None:
    """Return the spec of an output type; None for plain text."""
    if output is str:
        return None
    try:
        schema = _untitled(TypeAdapter(output).json_schema())
    except PydanticUserError as error:
        raise InvalidToolError(f"Output type {output!r}: {str(error).splitlines()[0]}") from None
    name = getattr(output, "__name__", "output")
    if schema.get("type") == "object":
        return OutputSpec(name=name, parameters=schema)
    definitions = schema.pop("$defs", None)
    wrapped: JsonSchema = {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
    }
    if definitions:
        wrapped["$defs"] = definitions
    return OutputSpec(name=name, parameters=wrapped, is_wrapped=True)


def _untitled(schema: Any, *, is_properties: bool = False) -> Any:
    """Drop pydantic's generated titles: they say nothing and are sent with every call."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema)
        return {
            key: (
                value
                if key in _DATA and not is_properties
                else _untitled(value, is_properties=key in ("properties", "$defs") and not is_properties)
            )
            for key, value in items.items()
            if is_properties or key != "title"
        }
    if isinstance(schema, list):
        entries = cast("list[Any]", schema)
        return [_untitled(item) for item in entries]
    return schema
