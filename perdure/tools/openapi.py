"""`openapi_tools`: a tool for each operation of an OpenAPI document. Both sides declare them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from perdure.agents.approvals import Policy, policy_name
from perdure.agents.schema_tool import SchemaTool
from perdure.agents.tool import Tool
from perdure.contracts.spec import ToolSpec
from perdure.errors import InvalidToolError, suggest
from perdure.tools._openapi_document import Document, read_document
from perdure.tools._openapi_operations import Described, base_url_of, operations, placed, shape_of, unique_names
from perdure.tools._operation import READING, Operation
from perdure.tools.credentials import Credential

_TIMEOUT = timedelta(seconds=60)
MARGIN = timedelta(seconds=5)
"""Beyond the time of a request, so that it is the request that ends first, and says how."""


def openapi_tools(
    spec: str | Path | Mapping[str, Any],
    *,
    base_url: str | None = None,
    auth: Credential | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    deprecated: bool = False,
    prefix: str = "",
    headers: Mapping[str, str] | None = None,
    idempotency_header: str = "",
    timeout: timedelta = _TIMEOUT,
    max_result_bytes: int = 64 * 1024,
    needs_approval: bool | Policy = False,
) -> tuple[Tool, ...]:
    """Return a tool for each operation of an OpenAPI document, version 3.0 or 3.1.

    A tool takes the operation's parameters by name, and its body as `body`. `GET`, `HEAD` and `OPTIONS` are
    read-only; they, `PUT` and `DELETE` are idempotent, and so is all else where `idempotency_header` is set. An
    answer of 400 or more is told to the model as an error, with the beginning of its text; 429, 502, 503 and 504
    are tried again where the operation is idempotent, after what `Retry-After` says.

    Args:
        spec: A file in YAML or JSON, or the document itself.
        base_url: Where the paths begin; the document's first server when None.
        auth: `env(…)` or `basic_auth(…)`: read on the worker, at each call, and sent to this API's origin only.
        include: Only operations whose id, tag, or `METHOD /path` fits one of these (with `*`); all when empty.
        exclude: No operation that fits one of these.
        deprecated: Have deprecated operations too.
        prefix: Before each tool's name, such as `shop_`.
        headers: Sent with each request; nothing secret, which belongs to `auth`.
        idempotency_header: Send the call's key in it, with all that writes: the API must know the header.
        timeout: For one request, and its answer.
        max_result_bytes: Longer answers are cut, with a notice.
        needs_approval: As in `@tool`, for operations that write.

    Raises:
        InvalidToolError: The document can't be read, or an operation can't be a tool. Not retryable.
    """
    document = Document(read_document(spec))
    found = [each for each in operations(document) if deprecated or each.node.get("deprecated") is not True]
    _check_patterns(found, (*include, *exclude))
    chosen = [each for each in found if (not include or _fits(each, include)) and not _fits(each, exclude)]
    if not chosen:
        raise InvalidToolError("openapi_tools: no operation is left: include and exclude leave none.")
    names = unique_names(chosen, prefix)
    common = tuple(sorted((name.lower(), value) for name, value in (headers or {}).items()))
    made: list[Tool] = []
    for each in chosen:
        try:
            shape = shape_of(document, each)
        except InvalidToolError as error:
            raise InvalidToolError(f"{error.message} It is in {each.place}; exclude it to go without.") from None
        operation = Operation(
            method=each.method,
            base_url=base_url_of(each, base_url),
            path=each.path,
            parameters=shape.parameters,
            body=shape.body,
            headers=common,
            auth=() if auth is None else (placed(document, each, auth),),
            idempotency_header=idempotency_header,
            total_seconds=timeout.total_seconds(),
            max_result_bytes=max_result_bytes,
        )
        made.append(make_tool(names[each.place], each.description, shape.schema, operation, needs_approval))
    return tuple(made)


def make_tool(
    name: str, description: str, schema: dict[str, Any], operation: Operation, needs_approval: bool | Policy
) -> Tool:
    """Return the tool of an operation; what only reads needs no approval."""
    is_reading = operation.method in READING
    asks = False if is_reading else needs_approval
    tool = ToolSpec(
        name=name,
        description=description,
        parameters=schema,
        idempotent=operation.is_repeatable,
        read_only=is_reading,
        timeout=timedelta(seconds=operation.total_seconds) + MARGIN,
        max_attempts=4 if operation.is_repeatable else 1,
        # What is cut here, by length of an answer, is cut before, with a notice that says so.
        max_result_bytes=operation.max_result_bytes + 1024,
        needs_approval=bool(asks),
        approval_policy=policy_name(asks),
    )
    return SchemaTool(operation, tool, policy=None if isinstance(asks, bool) else asks)


def _fits(operation: Described, patterns: Sequence[str]) -> bool:
    known = (operation.id, operation.place, *operation.tags)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in known if name)


def _check_patterns(found: Sequence[Described], patterns: Sequence[str]) -> None:
    """Refuse a pattern that fits nothing: an allow-list with a slip of the pen would leave out what is wanted."""
    for pattern in patterns:
        if not any(_fits(each, (pattern,)) for each in found):
            known = {name for each in found for name in (each.id, *each.tags) if name}
            hint = suggest(pattern, known) if len(known) < 30 or _near(pattern, known) else ""
            raise InvalidToolError(f"openapi_tools: no operation, tag or path fits {pattern!r}.{hint}")


def _near(pattern: str, known: set[str]) -> bool:
    return "Did you mean" in suggest(pattern, known)
