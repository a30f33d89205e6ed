"""The text of a web page. Activity side; pure.

By the parser of the standard library, which reads a stream and never recurses: pages are made by others.
"""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import urljoin

_HIDDEN = frozenset({"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas"})
_BLOCKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "dd",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "form",
    }
    | {"header", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul", "br", "hr", "title", "body"}
)
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_SPACE = re.compile(r"[ \t\r\f\v]*\n\s*|[ \t\r\f\v]+")
_MAX_LINK_CHARS = 500
_PIECE_CHARS = 64 * 1024
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]{1,40})", re.I)
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def decode(body: bytes, charset: str, *, is_html: bool) -> str:
    """Return the text of a body: by its byte order mark, the header's charset, the page's own, or UTF-8."""
    found = next((name for mark, name in _BOMS if body.startswith(mark)), charset)
    if not found and is_html and (declared := _META_CHARSET.search(body[:4096])):
        found = declared[1].decode()
    try:
        return body.decode(found or "utf-8", errors="replace")
    except (LookupError, ValueError):  # an encoding that Python doesn't have, or that is none of text
        return body.decode("utf-8", errors="replace")


def page_text(html: str, *, base: str) -> str:
    """Return what a reader sees of a page: headings with #, lists with -, links with their address."""
    reader = _Reader(base)
    for start in range(0, len(html), _PIECE_CHARS):
        reader.feed(html[start : start + _PIECE_CHARS])
    # What is left of an unfinished tag or comment is dropped: the parser would go through it again from each "<",
    # which takes hours on a page of two megabytes that was made for it.
    if not reader.rawdata.startswith("<"):
        reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__(convert_charrefs=True)
        self._base = base
        self._pieces: list[str] = []
        self._hidden = 0
        self._links: list[str] = []
        self._preformatted = 0

    def text(self) -> str:
        lines = (line.strip(" ") if not line.startswith("\x00") else line[1:] for line in self._lines())
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _lines(self) -> Sequence[str]:
        return "".join(self._pieces).split("\n")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _HEADINGS:
            self._add(f"\n\n{_HEADINGS[tag]} ")
        elif tag == "li":
            self._add("\n- ")
        elif tag in ("td", "th"):
            self._add(" | ")
        elif tag == "a":
            self._links.append(self._target(dict(attrs).get("href") or ""))
        elif tag == "img":
            self._add(dict(attrs).get("alt") or "")
        elif tag in _BLOCKS:
            self._preformatted += tag == "pre"
            self._add("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag == "a" and self._links:
            target = self._links.pop()
            self._add(f" ({target})" if target else "")
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._preformatted -= tag == "pre" and self._preformatted > 0
            self._add("\n")

    def handle_data(self, data: str) -> None:
        if self._preformatted:
            self._add("\n".join(f"\x00{line}" if line[:1] == " " else line for line in data.split("\n")))
        else:
            self._add(_SPACE.sub(" ", data))

    def _add(self, text: str) -> None:
        if not self._hidden:
            self._pieces.append(text)

    def _target(self, href: str) -> str:
        if not href or href.startswith("#"):
            return ""
        try:
            target = urljoin(self._base, href)
        except ValueError:
            return ""
        return target if target.startswith(("http://", "https://")) and len(target) <= _MAX_LINK_CHARS else ""
