"""`http_tool`: one HTTP request as a tool. Both sides declare it; only activities run it."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from perdure.agents.approvals import Policy
from perdure.agents.tool import Tool
from perdure.contracts.spec import JsonSchema
from perdure.errors import InvalidToolError
from perdure.tools._openapi_operations import check_base_url
from perdure.tools._operation import READING, Body, Operation, Parameter
from perdure.tools.credentials import Credential
from perdure.tools.openapi import make_tool

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TIMEOUT = timedelta(seconds=60)


def http_tool(
    name: str,
    method: str,
    url: str,
    *,
    description: str,
    parameters: Mapping[str, JsonSchema] | None = None,
    optional: tuple[str, ...] = (),
    body: JsonSchema | None = None,
    auth: Credential | None = None,
    headers: Mapping[str, str] | None = None,
    idempotency_header: str = "",
    timeout: timedelta = _TIMEOUT,
    max_result_bytes: int = 64 * 1024,
    needs_approval: bool | Policy = False,
) -> Tool:
    """Return a tool that makes one HTTP request; what holds for `openapi_tools` holds for it.

    Args:
        name: What the model calls it.
        method: `GET`, `POST` …
        url: Where to, with `{name}` in its path for parameters: `https://shop.example/orders/{order}`.
        description: What the model is told.
        parameters: A JSON schema for each; text where the path names one that isn't here. Those that the path
            doesn't name go into the query.
        optional: Parameters of the query that may be left out.
        body: The JSON schema of the argument `body`, which is sent as JSON.
        auth: `env(…)` or `basic_auth(…)`: read on the worker, at each call.
        headers: Sent with each request; nothing secret.
        idempotency_header: Send the call's key in it: the service must know the header.
        timeout: For the request, and its answer.
        max_result_bytes: A longer answer is cut, with a notice.
        needs_approval: As in `@tool`; a method that reads needs none.

    Raises:
        InvalidToolError: The template, or an option, can't be used. Not retryable.
    """
    method = method.upper()
    if method not in _METHODS:
        raise InvalidToolError(
            f"http_tool {name!r}: the method {method!r} is none of {', '.join(sorted(_METHODS))}."
        )
    if body is not None and method in READING:
        raise InvalidToolError(f"http_tool {name!r}: a {method} request has no body.")
    base, path = _split(name, url)
    in_path = [match[1] for match in _PLACEHOLDER.finditer(path)]
    schemas: dict[str, JsonSchema] = {
        **{each: {"type": "string"} for each in in_path},
        **{each: dict(schema) for each, schema in (parameters or {}).items()},
    }
    _check(name, schemas, in_path, optional)
    places = tuple(_parameter(each, is_in_path=each in in_path) for each in schemas)
    required = [each for each in schemas if each not in optional]
    properties: dict[str, Any] = dict(schemas)
    if body is not None:
        properties["body"] = body
        required.append("body")
    operation = Operation(
        method=method,
        base_url=base,
        path=path,
        parameters=places,
        body=None if body is None else Body(media_type="application/json"),
        headers=tuple(sorted((key.lower(), value) for key, value in (headers or {}).items())),
        auth=() if auth is None else (auth,),
        idempotency_header=idempotency_header,
        total_seconds=timeout.total_seconds(),
        max_result_bytes=max_result_bytes,
    )
    schema: JsonSchema = {"type": "object", "properties": properties, "additionalProperties": False}
    return make_tool(
        name, description, {**schema, "required": required} if required else schema, operation, needs_approval
    )


def _split(name: str, url: str) -> tuple[str, str]:
    """Return the origin of a template, which holds no parameter, and its path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidToolError(f"http_tool {name!r}: {url!r} is no URL.") from None
    base = check_base_url(f"{parts.scheme}://{parts.netloc}")
    if parts.fragment:
        raise InvalidToolError(f"http_tool {name!r}: a URL with a fragment can't be requested.")
    if "{" in parts.query or "}" in _PLACEHOLDER.sub("", parts.path) or "{" in _PLACEHOLDER.sub("", parts.path):
        raise InvalidToolError(
            f"http_tool {name!r}: a parameter is {{name}} in the path; those of the query go into `parameters`."
        )
    return base, parts.path + (f"?{parts.query}" if parts.query else "")


def _check(name: str, schemas: Mapping[str, JsonSchema], in_path: list[str], optional: tuple[str, ...]) -> None:
    for each in schemas:
        if not _ARGUMENT.fullmatch(each) or each == "body":
            raise InvalidToolError(f"http_tool {name!r}: a parameter can't be called {each!r}.")
    if len(set(in_path)) < len(in_path):
        raise InvalidToolError(f"http_tool {name!r}: the path names a parameter twice.")
    for each in optional:
        if each not in schemas or each in in_path:
            raise InvalidToolError(f"http_tool {name!r}: {each!r} is no parameter of the query.")


def _parameter(name: str, *, is_in_path: bool) -> Parameter:
    if is_in_path:
        return Parameter(argument=name, name=name, place="path", style="simple")
    return Parameter(argument=name, name=name, place="query", style="form", explode=True)
