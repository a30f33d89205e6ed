"""`file_tools`: tools that list, search, read and write files below one folder. Both sides declare them."""

from functools import cache
from pathlib import Path

from perdure.agents.approvals import Policy
from perdure.agents.tool import Tool, tool
from perdure.errors import InvalidToolError, ToolRetry

_MAX_FILE_BYTES = 5_000_000
_MAX_WRITE_BYTES = 1_000_000
_MAX_LINES = 2000


def file_tools(
    root: str | Path,
    *,
    prefix: str = "",
    read_only: bool = False,
    needs_approval: bool | Policy = True,
    max_file_bytes: int = _MAX_FILE_BYTES,
) -> tuple[Tool, ...]:
    """Return the tools `list_files`, `search_files`, `read_file` and `write_file`, confined to a folder.

    A path is walked one part at a time by the descriptor of its folder, and no link is ever followed by the
    system: one that stays within the root is resolved by the same walk, one that leaves it is refused. So nothing
    that is exchanged meanwhile leads out. Hard links and mounts within the root are part of it. POSIX only.

    Args:
        root: The folder, as it is called on the workers.
        prefix: Before each tool's name, for an agent with several roots.
        read_only: Leave `write_file` out.
        needs_approval: Of `write_file`, as in `@tool`.
        max_file_bytes: Larger files are refused, with their size.

    Raises:
        InvalidToolError: An option can't be used. Not retryable.
    """
    if not str(root).strip() or "\0" in str(root):
        raise InvalidToolError("file_tools: name the folder.")
    if max_file_bytes < 1:
        raise InvalidToolError("file_tools: max_file_bytes must be positive.")
    readers = _readers(str(root), prefix, max_file_bytes)
    return readers if read_only else (*readers, _writer(str(root), prefix, needs_approval))


@cache  # the same tools for all agents of an app
def _readers(root: str, prefix: str, max_file_bytes: int) -> tuple[Tool, Tool, Tool]:
    @tool(name=f"{prefix}list_files", idempotent=True, read_only=True)
    def list_files(folder: str = ".", pattern: str = "*") -> str:
        """List the files below a folder, with their sizes.

        Args:
            folder: Where to look, relative to the root.
            pattern: Which names, as in `*.md`, or which paths, as in `src/*.py`.
        """
        from perdure.tools._listing import list_below

        return list_below(root, folder, pattern)

    @tool(name=f"{prefix}search_files", idempotent=True, read_only=True)
    def search_files(text: str, folder: str = ".", pattern: str = "*", ignore_case: bool = True) -> str:
        """Find the lines of text files that hold a text, as `path:line: text`.

        Args:
            text: What to find, letter by letter; it is no regular expression.
            folder: Where to look, relative to the root.
            pattern: Which files, as in `*.md`.
            ignore_case: Whether capital letters make no difference.
        """
        from perdure.tools._listing import search_below

        if not text:
            raise ToolRetry("There is nothing to find: text is empty.")
        return search_below(root, folder, pattern, text, ignore_case=ignore_case, max_file_bytes=max_file_bytes)

    @tool(name=f"{prefix}read_file", idempotent=True, read_only=True)
    def read_file(path: str, start_line: int = 1, max_lines: int = _MAX_LINES) -> str:
        """Read a text file, or a part of it.

        Args:
            path: The file, relative to the root.
            start_line: The first line to return, from 1.
            max_lines: How many lines to return, at most 2000.
        """
        from perdure.tools._listing import read_lines

        most = min(max(1, max_lines), _MAX_LINES)
        return read_lines(root, path, max(1, start_line), most, max_file_bytes=max_file_bytes)

    return list_files, search_files, read_file


@cache
def _writer(root: str, prefix: str, needs_approval: bool | Policy) -> Tool:
    @tool(name=f"{prefix}write_file", idempotent=True, needs_approval=needs_approval)
    def write_file(path: str, content: str) -> str:
        """Write a text file, in place of what is there; folders are made as needed.

        Args:
            path: The file, relative to the root.
            content: All of its text.
        """
        from perdure.tools._confined import Root

        data = content.encode(errors="replace")
        if len(data) > _MAX_WRITE_BYTES:
            raise ToolRetry(f"The content is longer than {_MAX_WRITE_BYTES:,} bytes: write several files.")
        with Root(root) as opened:
            opened.write(path, data)
        return f"Wrote {len(data)} bytes to {path}."

    return write_file
