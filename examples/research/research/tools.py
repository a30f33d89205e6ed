"""Tools that look at files below one folder, and never outside of it.

The folder is the run's context value `root`, else the environment variable RESEARCH_ROOT, else the current one.
All three only read, so running one twice does no harm: they are idempotent.
"""

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from perdure import ToolContext, ToolRetry, tool
from research._files import RefusedError, read_lines, resolve, walk

MAX_LISTED = 300
MAX_HITS = 40
MAX_LINES = 400
MAX_HIT_CHARS = 300
MAX_LINE_CHARS = 2000
MAX_FILES_SEARCHED = 5000


@tool(idempotent=True)
def list_files(context: ToolContext, folder: str = ".", pattern: str = "*") -> str:
    """List the text files below a folder, each with its size.

    Args:
        context: Of the call; the model doesn't see it.
        folder: Where to look, relative to the root.
        pattern: Which names, as in `*.md`.
    """
    root = _root(context)
    found = [path for path in _walk(root, folder) if fnmatch(path.name, pattern)]
    if not found:
        return f"No files match {pattern!r} below {folder!r}."
    lines = [f"{_shown(root, path)} ({path.stat().st_size} bytes)" for path in found[:MAX_LISTED]]
    if len(found) > MAX_LISTED:
        lines.append(f"[{len(found) - MAX_LISTED} more files: name a folder or a pattern]")
    return "\n".join(lines)


@tool(idempotent=True)
def search_text(context: ToolContext, query: str, folder: str = ".", max_results: int = 20) -> str:
    """Search all text files for words; lines with most of the words come first, as `path:line: text`.

    Args:
        context: Of the call; the model doesn't see it.
        query: Words to look for, separated by spaces; case doesn't matter.
        folder: Where to look, relative to the root.
        max_results: How many lines to return, at most 40.
    """
    terms = list(dict.fromkeys(query.lower().split()))
    if not terms:
        raise ToolRetry("The query is empty: give one or more words.")
    root = _root(context)
    hits = sorted(_hits(root, _walk(root, folder), terms), key=lambda hit: -hit[0])
    if not hits:
        return f"No line holds any of: {' '.join(terms)}. Try other words, or the beginnings of words."
    shown = [text for _, text in hits[: max(1, min(max_results, MAX_HITS))]]
    if len(hits) > len(shown):
        shown.append(f"[{len(hits) - len(shown)} more lines: ask for rarer words]")
    return "\n".join(shown)


@tool(idempotent=True)
def read_file(context: ToolContext, path: str, start_line: int = 1, max_lines: int = MAX_LINES) -> str:
    """Read a text file; every line comes with its number, as `12: text`.

    Args:
        context: Of the call; the model doesn't see it.
        path: The file, relative to the root.
        start_line: The first line to return.
        max_lines: How many lines to return, at most 400.
    """
    root = _root(context)
    try:
        lines = read_lines(resolve(root, path), path)
    except RefusedError as error:
        raise ToolRetry(str(error)) from None
    start = max(start_line, 1)
    stop = start - 1 + max(1, min(max_lines, MAX_LINES))
    chosen = [f"{start + i}: {line[:MAX_LINE_CHARS]}" for i, line in enumerate(lines[start - 1 : stop])]
    if not chosen:
        return f"{path} has {len(lines)} lines; there is none from line {start} on."
    if stop < len(lines):
        chosen.append(f"[{len(lines) - stop} more lines: read on with start_line={stop + 1}]")
    return "\n".join(chosen)


def _root(context: ToolContext) -> Path:
    given = context.context.get("root") or os.environ.get("RESEARCH_ROOT") or "."
    root = Path(str(given)).expanduser().resolve()
    if not root.is_dir():
        raise ToolRetry(f"The root {str(given)!r} is no folder on this worker; nothing can be read.")
    return root


def _walk(root: Path, folder: str) -> Iterator[Path]:
    try:
        start = resolve(root, folder)
    except RefusedError as error:
        raise ToolRetry(str(error)) from None
    if not start.is_dir():
        raise ToolRetry(f"There is no folder {folder!r}: list the files to see which there are.")
    return walk(root, start)


def _shown(root: Path, path: Path) -> str:
    """Return the path below the root; what is no UTF-8 in a name becomes `?`, as a message must be UTF-8."""
    return path.relative_to(root).as_posix().encode(errors="replace").decode()


def _hits(root: Path, paths: Iterable[Path], terms: list[str]) -> Iterator[tuple[int, str]]:
    """Yield lines that hold a term, with the number of terms; files that can't be read are passed over."""
    for _, path in zip(range(MAX_FILES_SEARCHED), paths, strict=False):
        shown = _shown(root, path)
        try:
            lines = read_lines(path, shown)
        except RefusedError:
            continue
        for number, line in enumerate(lines, start=1):
            low = line.lower()
            if matched := sum(term in low for term in terms):
                yield matched, f"{shown}:{number}: {line.strip()[:MAX_HIT_CHARS]}"
