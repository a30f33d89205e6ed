"""Pages of the documentation as something to do: files to write, lines to type, and what these print."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*/README.md")),
]
_FENCE = re.compile(
    r"(?:^`(?P<above>[\w./]+)`[^\n]*:\n\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$',
    re.M | re.S,
)
_VARYING = {r"…": r".*", r"\bID\b": r"\\S+", r"\d[\d.,:]*": r"[\\d.,:]+", r"(?:\\ )+": r"\\s+"}


@dataclass
class Line:
    """What is typed at the prompt, into the command that it starts, and what the page shows of its output."""

    text: str
    answers: str = ""
    shown: str = ""


@dataclass
class Written:
    """A block that says which file it is."""

    name: str
    text: str


def read_page(page: Path) -> Iterator[Line | Written]:
    """Yield what a page has its reader do, in order."""
    text = page.read_text()
    for block in _FENCE.finditer(text):
        name, body = block["above"] or block["title"], block["body"]
        if block["language"] in ("sh", "console"):
            *lines, last = _lines(body, is_console=block["language"] == "console")
            yield from lines
            if text[block.end() :].startswith("\n\n```text\n"):
                last.shown = text[block.end() + len("\n\n```text\n") :].split("```", 1)[0]
            yield last
        elif name:
            yield Written(name, body)


def _lines(block: str, *, is_console: bool) -> list[Line]:
    found: list[Line] = []
    for line in block.splitlines():
        if line.startswith("> ") and is_console:
            found[-1].answers += line.removeprefix("> ") + "\n"
        elif line.startswith("$ ") or not is_console:
            typed = re.split(r"\s+# ", line.removeprefix("$ "))[0].strip()
            found += [Line(typed)] if typed else []
        else:
            found[-1].shown += line + "\n"
    return found


def is_like(shown: str, came: str) -> bool:
    """Tell whether each line that is shown is in what came, but for numbers, ids, blanks and what is left out."""
    for line in filter(None, map(str.strip, shown.splitlines())):
        pattern = re.escape(line)
        for varying, any_such in _VARYING.items():
            pattern = re.sub(varying, any_such, pattern)
        if not re.search(pattern, came):
            return False
    return True
