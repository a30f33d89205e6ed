"""JSON schemas from Python types and signatures, by pydantic. Both sides."""

import inspect
from collections.abc import Callable
from typing import Any, cast, get_type_hints

from docstring_parser import parse as parse_docstring
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError

from perdure.contracts.spec import JsonSchema, OutputSpec
from perdure.errors import InvalidToolError


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
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as error:
            raise InvalidToolError(f"Tool {name!r}: {error}; annotate it with names that exist.") from None
        doc = parse_docstring(inspect.getdoc(function) or "")
        self.description = (doc.description or "").strip()
        self.context_parameter: str | None = None
        documented = {param.arg_name: param.description or "" for param in doc.params}
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if hints.get(parameter.name) is context_type:
                self.context_parameter = parameter.name
                continue
            fields[parameter.name] = _field(name, parameter, hints, documented.get(parameter.name))
        self.arguments = _make_model(name, fields)

    def schema(self) -> JsonSchema:
        """Return the JSON schema of the arguments."""
        return _untitled(self.arguments.model_json_schema())


def _field(
    tool: str, parameter: inspect.Parameter, hints: dict[str, Any], description: str | None
) -> tuple[Any, Any]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if parameter.kind not in kinds:
        raise InvalidToolError(f"Tool {tool!r}: parameter {parameter} can't be given by name.")
    if parameter.name not in hints:
        raise InvalidToolError(f"Tool {tool!r}: annotate parameter {parameter.name!r} with its type.")
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    return hints[parameter.name], Field(default=default, description=description or None)


def _make_model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, NameError, TypeError) as error:
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
            key: _untitled(value, is_properties=key in ("properties", "$defs") and not is_properties)
            for key, value in items.items()
            if is_properties or key != "title"
        }
    if isinstance(schema, list):
        entries = cast("list[Any]", schema)
        return [_untitled(item) for item in entries]
    return schema
