"""What of a server's list agents get: under which names, with which policy. Activity side; pure.

A list is somebody else's text. What no vendor would take, or no worker could hold, is left out with the reason:
one bad tool must not fail the model calls of a run.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, cast

from perdure.agents._names import is_name
from perdure.agents.mcp import MCPServer
from perdure.contracts.spec import JsonSchema, McpKind, McpSource, ToolSpec

_MAX_NAME = 64
_MAX_NODES = 5000
"""Of a schema with its references followed: some vendors, and perdure's own checks, walk all of it."""
_MAX_SPEC_BYTES = 400_000
"""Of all MCP tools of an agent: they are in the spec of each run, which may take 1 MB."""
_GRACE = timedelta(seconds=5)
"""Beyond the time of a call, so that it is the session that says that there is no answer."""
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A tool as a server describes it.

    Attributes:
        name: The server's own.
        description: For the model.
        parameters: JSON schema of the arguments.
        is_read_only: The server says that it changes nothing.
        is_idempotent: The server says that it may be run twice.
    """

    name: str
    description: str = ""
    parameters: JsonSchema
    is_read_only: bool = False
    is_idempotent: bool = False

    @property
    def digest(self) -> str:
        """What tells this tool from another of its name; a collision can't be made on purpose."""
        told = [self.name, self.description, self.parameters, self.is_read_only, self.is_idempotent]
        return sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode(errors="replace")).hexdigest()


@dataclass(frozen=True)
class Listing:
    """What agents get of a server.

    Attributes:
        specs: The tools, as runs are pinned to them.
        left_out: The others that are allowed, by the server's own name, and why.
    """

    specs: tuple[ToolSpec, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def digest(self, source: McpSource) -> str | None:
        """Return the digest of a tool as it is now; None where it is gone."""
        found = (each.mcp for each in self.specs if each.mcp and each.mcp.kind == source.kind)
        return next((each.digest for each in found if each.tool == source.tool), None)


def read_listing(
    server: MCPServer,
    offers: Sequence[Offer],
    *,
    has_resources: bool = False,
    has_prompts: bool = False,
    check_schema: Callable[[JsonSchema], str],
) -> Listing:
    """Return what agents get of what a server offers.

    Args:
        server: Its options.
        offers: Its tools, in its order.
        has_resources: It says that it has some.
        has_prompts: Likewise.
        check_schema: Says what is wrong with a JSON schema; empty for a good one.
    """
    specs: list[ToolSpec] = []
    left_out: list[tuple[str, str]] = []
    taken: set[str] = set()
    seen: set[str] = set()
    for offer in offers:
        if not _matches(offer.name, server.allow):
            continue
        name = _name(server, offer.name, taken)
        reason = _objection(server, offer, check_schema, is_first=offer.name not in seen, taken=len(specs))
        if reason:
            left_out.append((_shown(offer.name), reason))
            continue
        seen.add(offer.name)
        taken.add(name)
        specs.append(_spec(server, offer, name))
    for spec in _made(server, has_resources=has_resources, has_prompts=has_prompts):
        if spec.name in taken:
            left_out.append((spec.name, "the server has a tool of that name"))
        else:
            specs.append(spec)
    return Listing(tuple(specs), tuple(left_out))


def _objection(
    server: MCPServer, offer: Offer, check_schema: Callable[[JsonSchema], str], *, is_first: bool, taken: int
) -> str:
    """Return why a tool is left out; empty if it isn't."""
    if not is_first:
        return "the server has two tools of that name"
    if taken >= server.max_tools:
        return f"the server has more than max_tools = {server.max_tools}: choose with allow"
    size = len(json.dumps([offer.description, offer.parameters]))
    if size > server.max_tool_bytes:
        return f"its description and schema take {size} bytes, more than max_tool_bytes = {server.max_tool_bytes}"
    if offer.parameters.get("type", "object") != "object":
        return "its arguments are no object"
    if not _is_finite(offer.parameters):
        return "its schema refers to itself, to another document, or is too large"
    fault = check_schema(offer.parameters)
    return f"its schema is no JSON schema: {fault}" if fault else ""


def _spec(server: MCPServer, offer: Offer, name: str) -> ToolSpec:
    is_read_only = _matches(offer.name, server.read_only) or (server.trust_annotations and offer.is_read_only)
    is_idempotent = (
        is_read_only
        or _matches(offer.name, server.idempotent)
        or (server.trust_annotations and offer.is_idempotent)
    )
    source = McpSource(server=server.name, tool=offer.name, digest=offer.digest, is_stateful=server.stateful)
    return ToolSpec(
        name=name,
        description=offer.description,
        parameters={"type": "object", "properties": {}, **offer.parameters},
        # What a session held is gone with it: the call that lost it must not be run in another one.
        idempotent=is_idempotent and not server.stateful,
        timeout=server.timeout + _GRACE,
        max_attempts=_TRIES if is_idempotent and not server.stateful else 1,
        max_result_bytes=server.max_result_bytes,
        needs_approval=_matches(offer.name, server.needs_approval),
        read_only=is_read_only,
        mcp=source,
    )


_URI = {"uri": {"type": "string", "description": "The URI of the resource."}}
_CURSOR = {"cursor": {"type": "string", "description": "Where the page before ended, as it said."}}
_PROMPT = {
    "name": {"type": "string", "description": "The name of the prompt."},
    "arguments": {"type": "object", "additionalProperties": {"type": "string"}},
}
_MADE: tuple[tuple[McpKind, str, dict[str, Any], tuple[str, ...]], ...] = (
    ("list_resources", "List the resources that {server} has: their URIs and what they are.", _CURSOR, ()),
    ("read_resource", "Read a resource of {server}.", _URI, ("uri",)),
    ("list_prompts", "List the prompts that {server} has, and their arguments.", _CURSOR, ()),
    ("get_prompt", "Get a prompt of {server}, filled in with arguments.", _PROMPT, ("name",)),
)


def _made(server: MCPServer, *, has_resources: bool, has_prompts: bool) -> Iterable[ToolSpec]:
    """Yield the tools that perdure makes of resources and prompts. Nothing in them is the server's own text."""
    wanted = {
        "list_resources": server.resources and has_resources,
        "read_resource": server.resources and has_resources,
        "list_prompts": server.prompts and has_prompts,
        "get_prompt": server.prompts and has_prompts,
    }
    for kind, description, properties, required in _MADE:
        if not wanted[kind]:
            continue
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        }
        yield ToolSpec(
            name=f"{server.before or server.name + '__'}{kind}"[:_MAX_NAME],
            description=description.format(server=server.name),
            parameters=schema,
            idempotent=not server.stateful,
            timeout=server.timeout + _GRACE,
            max_attempts=1 if server.stateful else _TRIES,
            max_result_bytes=server.max_result_bytes,
            read_only=True,
            mcp=McpSource(server=server.name, kind=kind, is_stateful=server.stateful),
        )


def _name(server: MCPServer, own: str, taken: set[str]) -> str:
    """Return the name that the model sees: one that every vendor takes, and that no other tool has."""
    renamed = server.rename.get(own)
    if renamed is not None and renamed not in taken:
        return renamed
    wanted = server.before + own
    name = "".join(each if each.isascii() and (each.isalnum() or each in "_-") else "_" for each in wanted)
    if not name[:1].isalpha():
        name = f"t_{name}"
    if len(name) > _MAX_NAME or name in taken or not is_name(name) or name in ("final_output", "auto"):
        mark = sha256(own.encode(errors="replace")).hexdigest()[:8]
        name = f"{name[: _MAX_NAME - 9]}_{mark}"
    return name


def without_collisions(listings: Iterable[Listing], own: Iterable[str]) -> tuple[tuple[ToolSpec, ...], list[str]]:
    """Return the tools of several servers, none of which has the name of another, or of an agent's own tool.

    Returns:
        The tools, and the names of those that are left out.
    """
    taken, specs, lost, left = set(own), list[ToolSpec](), list[str](), _MAX_SPEC_BYTES
    for spec in (each for listing in listings for each in listing.specs):
        left -= (size := len(spec.to_bytes()))
        if spec.name in taken or left < 0:
            left += size
            lost.append(spec.name)
            continue
        taken.add(spec.name)
        specs.append(spec)
    return tuple(specs), lost


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _shown(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"


def _is_finite(schema: JsonSchema) -> bool:
    """Say whether a schema is small with its references followed: each within it, and none to itself."""
    left = _MAX_NODES

    def walk(node: Any, above: tuple[str, ...]) -> bool:
        nonlocal left
        left -= 1
        if left < 0 or len(above) > _MAX_NAME:
            return False
        if isinstance(node, list):
            return all(walk(each, above) for each in cast("list[Any]", node))
        if not isinstance(node, dict):
            return True
        fields = cast("dict[str, Any]", node)
        if any(key in fields for key in ("$dynamicRef", "$recursiveRef")):
            return False
        reference = fields.get("$ref")
        if isinstance(reference, str) and (
            reference in above or not walk(_resolve(schema, reference), (*above, reference))
        ):
            return False
        return all(walk(each, above) for key, each in fields.items() if key not in ("$defs", "definitions"))

    return walk(schema, ())


def _resolve(schema: JsonSchema, reference: str) -> Any:
    """Return what a reference leads to; what leads to nothing is endless, and so refused."""
    found: Any = schema
    if not reference.startswith("#/"):
        return {"$dynamicRef": reference}
    for step in reference[2:].split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or step not in found:
            return {"$dynamicRef": reference}
        found = cast("dict[str, Any]", found)[step]
    return found
