"""What the user gave to a run, read and checked: INPUT, `--limit`, `--context`, and ARGS."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

from pydantic import JsonValue, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from temporalio import workflow

from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart
from perdure.errors import InvalidInputError, suggest

_PARTS: TypeAdapter[tuple[ContentPart, ...]] = TypeAdapter(tuple[ContentPart, ...])


def read_input(given: str) -> str:
    """Return the text that INPUT stands for: `@FILE`, `-` for stdin, `@@…` for a text with an @ in front.

    Raises:
        InvalidInputError: The file can't be read. Not retryable.
    """
    if given == "-":
        return _decode(sys.stdin.buffer.read(), "stdin")
    if given.startswith("@@"):
        return given[1:]
    if given.startswith("@"):
        return _decode(_read_file(given[1:]), given[1:])
    return given


def _read_file(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:  # the latter where ~ or ~NAME has no home
        problem = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise InvalidInputError(
            f"The input can't be read from {path!r}: {problem}. (A text with an @ in front is written @@.)"
        ) from None


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{source} isn't UTF-8 text. Give a file to an agent by URL, as a part.") from None


def agent_input(text: str) -> str | tuple[ContentPart, ...]:
    """Return the content parts that `text` is JSON of, else the text itself.

    Raises:
        InvalidInputError: It is a list of parts, and one of them is wrong. Not retryable.
    """
    value = _json_or(text, None) if text.lstrip().startswith("[") else None
    if not isinstance(value, list) or not value or not all(_is_part(each) for each in cast("list[Any]", value)):
        return text
    try:
        return _PARTS.validate_json(text)
    except ValidationError as error:
        raise InvalidInputError(f"The input is a list of parts, but {_first_problem(error)}.") from None


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and "kind" in value


def workflow_args(name: str, cls: type, text: str | None) -> list[Any]:
    """Return the arguments of a workflow of the user's own.

    Raises:
        InvalidInputError: The text doesn't fit the workflow's parameters. Not retryable.
    """
    types = _parameter_types(cls)
    if text is None:
        return []
    if types is None:
        return [_json_or(text, text)]
    if not types:
        raise InvalidInputError(f"The workflow {name!r} takes no input.")
    if len(types) == 1:
        return [_fit(name, text, types[0])]
    values = _json_or(text, None)
    if not isinstance(values, list) or len(cast("list[Any]", values)) > len(types):
        raise InvalidInputError(f"The workflow {name!r} takes {len(types)} arguments: give a JSON array of them.")
    listed = cast("list[Any]", values)
    return [_fit(name, json.dumps(each), kind) for each, kind in zip(listed, types, strict=False)]


def _parameter_types(cls: type) -> Sequence[Any] | None:
    definition = workflow._Definition.from_class(cls)  # pyright: ignore[reportPrivateUsage] - no public way
    return definition.arg_types if definition else None


def _fit(name: str, text: str, kind: Any) -> Any:
    """Return `text` as what the workflow wants: JSON of its type, else the text itself if that will do."""
    if kind is str:
        value = _json_or(text, text)
        return value if isinstance(value, str) else text
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return _json_or(text, text)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        try:
            return adapter.validate_python(text, strict=True)
        except ValidationError:
            what = getattr(kind, "__name__", str(kind))
            problem = _first_problem(error)
            raise InvalidInputError(
                f"The input of the workflow {name!r} should be JSON of {what}: {problem}."
            ) from None


def parse_limits(given: Iterable[str], option: str = "--limit") -> Limits | None:
    """Read `--limit KEY=N`.

    Raises:
        InvalidInputError: No such limit, or no such value. Not retryable.
    """
    values = _pairs(given, option)
    names = {field.serialization_alias or name for name, field in Limits.model_fields.items()} | {"wall_clock"}
    for key in values.keys() - names:
        raise InvalidInputError(f"There is no limit {key!r}.{suggest(key, names)}")
    try:
        return Limits.model_validate(values) if values else None
    except ValidationError as error:
        raise InvalidInputError(f"{option}: {_first_problem(error)}.") from None


def parse_shared_limits(given: Iterable[str]) -> Limits | None:
    """Read `--limit KEY=N` of a run that is no agent's: all that it starts shares it.

    Raises:
        InvalidInputError: No such limit, or no such value, or none that can be shared. Not retryable.
    """
    from perdure.client import only_shared

    limits = parse_limits(given)
    return None if limits is None else only_shared(limits)


def parse_time(text: str | None, option: str = "--since") -> timedelta | None:
    """Read `--since 7d`: minutes (m), hours (h), days (d) or weeks (w).

    Raises:
        InvalidInputError: It is no such time. Not retryable.
    """
    if text is None:
        return None
    return _period(text, "mhdw") or _bad_period(option, text, "m, h, d or w, such as 7d")


def parse_period(text: str | None, option: str) -> timedelta | None:
    """Read a period such as `90s`, `30m`, `6h`, `1d` or `2w`.

    Raises:
        InvalidInputError: It is no period. Not retryable.
    """
    if text is None:
        return None
    return _period(text, "smhdw") or _bad_period(option, text, "s, m, h, d or w, such as 6h")


def _period(text: str, units: str) -> timedelta | None:
    found = re.fullmatch(rf"(\d{{1,7}})([{units}])", text.strip())
    if found is None or not int(found[1]):
        return None
    names = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    return timedelta(**{names[found[2]]: int(found[1])})


def _bad_period(option: str, text: str, units: str) -> NoReturn:
    raise InvalidInputError(f"{option} {text!r} should be a number of {units}.")


def parse_context(given: Iterable[str]) -> dict[str, JsonValue] | None:
    """Read `--context KEY=VALUE`; a value is JSON where it parses."""
    return _pairs(given, "--context") or None


def parse_args(given: Iterable[str]) -> list[Any]:
    """Read ARGS of a query, signal or update; each is JSON where it parses, else text."""
    return [_json_or(text, text) for text in map(read_input, given)]


def _pairs(given: Iterable[str], option: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not (key and equals):
            raise InvalidInputError(f"{option} {each!r} should be KEY=VALUE.")
        pairs[key.strip()] = _json_or(value, value)
    return pairs


def _json_or(text: str, otherwise: Any) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return otherwise
    check_text(value)
    return value


def check_text(value: Any) -> None:
    """Refuse JSON with half a surrogate pair in it, which is no text.

    Raises:
        InvalidInputError: Not retryable.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = ascii(error.object[error.start : error.start + 1])
        raise InvalidInputError(f"The input has {found}, half of a surrogate pair: that is no text.") from None


def _first_problem(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    problem = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {problem}" if where else problem[:1].lower() + problem[1:]
