"""The text of pages, also of those that were made to break a parser."""

import pytest

from perdure.tools._page import decode, page_text

PAGE = """<html><head><title>T</title><style>b{}</style><script>alert(1)</script></head><body>
<h1>Hi</h1><p>a <b>b</b> &amp;  c, <a href='/z'>link</a> <a href="#x">here</a> <a href="javascript:x">bad</a></p>
<ul><li>one<li>two</ul><pre>  a
   b</pre><img src=x alt="A picture"> tail & all"""


def test_what_a_reader_sees() -> None:
    text = page_text(PAGE, base="http://host/q")
    assert "T\n\n# Hi" in text
    assert "a b & c, link (http://host/z) here bad" in text
    assert "- one\n- two" in text
    assert "  a\n   b" in text
    assert text.endswith("A picture tail & all")
    assert "alert" not in text
    assert "b{}" not in text


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["<!--", "<div>", "<![CDATA[", "<?", "</a", "&", "<script>", "<a href='", "<![if x"]
)
def test_hostile_pages_take_linear_time(piece: str) -> None:
    page_text(piece * (200_000 // len(piece)), base="http://host/")


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("é".encode(), "", "é"),
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        (b'<meta charset="windows-1252">\x80', "", '<meta charset="windows-1252">€'),
        (b"\xef\xbb\xbfa", "latin-1", "a"),
        ("é".encode("utf-16"), "", "é"),
        (b"a\xff", "", "a\ufffd"),
        (b"a", "no-such", "a"),
        (b"a", "hex", "a"),
    ],
)
def test_charsets(body: bytes, charset: str, text: str) -> None:
    assert decode(body, charset, is_html=True) == text
