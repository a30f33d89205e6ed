"""One call of a tool, a resource or a prompt, in an open session. Activity side; imported with the session."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import mcp_types as types

from perdure.contracts.messages import ContentPart, TextPart
from perdure.contracts.spec import McpSource
from perdure.contracts.texts import one_line
from perdure.mcp._faults import Refused
from perdure.mcp._results import PutBlob, Reader
from perdure.mcp._session import Session


async def ask(
    session: Session,
    source: McpSource,
    arguments: dict[str, Any],
    *,
    put_blob: PutBlob,
    redact: Callable[[str], str],
) -> Sequence[ContentPart]:
    """Return what the server answers.

    Raises:
        StaleSession: The session had ended; nothing was run.
        Unanswered: There is no answer; it may have been run.
        Refused: The server says that it can't, or that the tool failed.
    """
    reader = Reader(put_blob, redact)
    match source.kind:
        case "tool":
            return await _call_tool(session, source.tool, arguments, reader)
        case "list_resources":
            return [await _list_resources(session, arguments, redact)]
        case "read_resource":
            uri = str(arguments.get("uri", ""))
            request = types.ReadResourceRequest(params=types.ReadResourceRequestParams(uri=uri))
            return reader.resource((await session.request(request, types.ReadResourceResult)).contents)
        case "list_prompts":
            return [await _list_prompts(session, arguments, redact)]
        case "get_prompt":
            return await _get_prompt(session, arguments, reader)


async def _call_tool(
    session: Session, name: str, arguments: dict[str, Any], reader: Reader
) -> Sequence[ContentPart]:
    # `Client.call_tool` checks the result against a schema of the server's, which may take for ever.
    request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
    result = await session.request(request, types.CallToolResult)
    parts = reader.result(result)
    if result.is_error:
        text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
        raise Refused(f"The tool failed: {text}")
    return parts


async def _list_resources(session: Session, arguments: dict[str, Any], redact: Callable[[str], str]) -> TextPart:
    params = types.PaginatedRequestParams(cursor=arguments.get("cursor"))
    page = await session.request(types.ListResourcesRequest(params=params), types.ListResourcesResult)
    lines = [_line(str(each.uri), each.name, each.mime_type, each.description) for each in page.resources]
    if not arguments.get("cursor"):
        lines += await _templates(session)
    return _page(lines, page.next_cursor, redact)


async def _templates(session: Session) -> list[str]:
    """Return the templates of URIs, where the server has any; not every one knows the question."""
    try:
        request = types.ListResourceTemplatesRequest(params=types.PaginatedRequestParams())
        found = (await session.request(request, types.ListResourceTemplatesResult)).resource_templates
    except Refused:
        return []
    return [_line(f"{each.uri_template} (fill in)", each.name, each.mime_type, each.description) for each in found]


async def _list_prompts(session: Session, arguments: dict[str, Any], redact: Callable[[str], str]) -> TextPart:
    params = types.PaginatedRequestParams(cursor=arguments.get("cursor"))
    page = await session.request(types.ListPromptsRequest(params=params), types.ListPromptsResult)
    lines = [
        _line(each.name, ", ".join(_argument(one) for one in each.arguments or ()), each.description)
        for each in page.prompts
    ]
    return _page(lines, page.next_cursor, redact)


def _argument(argument: types.PromptArgument) -> str:
    return f"{argument.name} (required)" if argument.required else argument.name


async def _get_prompt(session: Session, arguments: dict[str, Any], reader: Reader) -> Sequence[ContentPart]:
    given = arguments.get("arguments")
    filled = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    params = types.GetPromptRequestParams(
        name=str(arguments.get("name", "")), arguments={name: str(value) for name, value in filled.items()}
    )
    return reader.prompt(await session.request(types.GetPromptRequest(params=params), types.GetPromptResult))


def _line(*words: str | None) -> str:
    return one_line(" · ".join(word for word in words if word), 300)


def _page(lines: Sequence[str], cursor: str | None, redact: Callable[[str], str]) -> TextPart:
    more = f"\n[there are more: cursor {cursor}]" if cursor else ""
    return TextPart(text=redact(("\n".join(lines) or "(none)") + more))
