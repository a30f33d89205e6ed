"""A run as one page: what is in it, and that nothing in the run can add to it."""

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.client._report.graph import plan_svg
from perdure.client._report.markup import escaped, shortened
from perdure.client._report.page import render
from perdure.client._timeline.data import ChainLink, Step, Timeline
from perdure.client._timeline.read import ReadRun, make_timeline
from perdure.contracts.messages import Message, ReasoningPart, TextPart, ToolCallPart, tool_message, user_message
from perdure.contracts.plan import Plan, Task
from perdure.history import RecordedRun
from tests.support.histories import load, read

AT = datetime(2026, 1, 1, tzinfo=UTC)
EVIL = (
    "</script></style><script>alert(1)</script><img src=//evil.example onerror=alert(1)>"
    "\"' onload='x' $style &amp;"
)


class Tags(HTMLParser):
    """Collects elements and attributes as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


async def stored_page(*names: str) -> str:
    chain = [await read(load(name), run_id=name) for name in names]
    return render(ReadRun(make_timeline("w", chain), tuple(each.reader.run for each in chain), {}))


def page_of(text: str) -> str:
    """Return the page of a run in which everything that can be is this text."""
    call = ToolCallPart(id="1", name=text, arguments=text)
    step = Step(
        kind="turn",
        name=text,
        label=text,
        failure=text,
        problem=text,
        model=text,
        agent=text,
        slot=1,
        started_at=AT,
    )
    child = Step(kind="child", name=text, workflow_id=text, agent=text, started_at=AT, event_id=2, outcome=text)
    link = ChainLink(run_id=text, started_at=AT, events=1, outcome="ok")
    timeline = Timeline(
        workflow_id=text,
        run_id=text,
        workflow=text,
        agent=text,
        status=text,
        summary=text,
        failure=text,
        started_at=AT,
        read_at=AT + timedelta(seconds=5),
        links=(link,),
        steps=(step, child, step.model_copy(update={"kind": text}), step.model_copy(update={"kind": "model"})),
        plan=Plan(title=text, tasks=(Task(id=text, agent=text), Task(id="b", agent=text, needs=(text,)))),
    )
    run = RecordedRun()
    run.put("main", 0, 0, user_message(text, author=text))
    parts = (ReasoningPart(text=text), TextPart(text=text), call)
    run.put("main", 0, 1, Message(role="assistant", parts=parts, model=text))
    run.put("main", 0, 2, tool_message(call, text, outcome="error"))
    return render(ReadRun(timeline, (run,), {}))


async def test_the_page_has_it_all() -> None:
    page = await stored_page("tools-0")
    found = Tags(page)
    assert "look(number=1)" in found.text
    assert "307 tokens · cost unknown" in found.text
    assert {"svg", "details", "table", "article"} <= set(found.tags)
    assert "#run-0-1" in page, "a turn of the timeline leads to its message"


async def test_a_plan_is_drawn_as_it_was_changed() -> None:
    page = await stored_page("plan-steered-0")
    shown = re.findall(r'<rect class="task (\w+)"', page)
    assert len(shown) == 9, "a task was added, another was dropped"
    assert sorted(set(shown)) == ["bad", "good", "warn"]
    assert 'href="#plan"' in page
    assert 'href="#plan"' not in await stored_page("tools-0")


@pytest.mark.parametrize(("summary", "is_named"), [("Orders", False), ("order 7", True)])
def test_the_workflow_is_named_once(summary: str, is_named: bool) -> None:
    timeline = Timeline(
        workflow_id="w",
        run_id="r",
        workflow="Orders",
        status="completed",
        summary=summary,
        started_at=AT,
        read_at=AT,
        links=(),
        steps=(),
    )
    facts = re.search("<dl>(.*?)</dl>", render(ReadRun(timeline, (RecordedRun(),), {})), re.S)
    assert facts
    assert ("Orders" in facts[1]) == is_named


async def test_nothing_is_loaded() -> None:
    found = Tags(await stored_page("tools-0"))
    addresses = [
        value for name, value in found.attributes if name in ("src", "href", "action", "data", "xlink:href")
    ]
    assert all(value is not None and value.startswith(("#", "data:,")) for value in addresses)
    assert not {"iframe", "object", "embed", "img", "form", "base"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]


async def test_the_policy_lets_in_one_style_and_one_script() -> None:
    page = await stored_page("tools-0")
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def shape(page: str) -> tuple[list[str], list[str]]:
    found = Tags(page)
    return found.tags, [name for name, _ in found.attributes]


def test_what_a_run_says_is_text() -> None:
    assert shape(page_of(EVIL)) == shape(page_of("harmless"))
    assert EVIL in Tags(page_of(EVIL)).text


@given(st.text(st.characters(codec="utf-16", exclude_categories=()), min_size=1, max_size=60))
def test_no_text_becomes_markup(text: str) -> None:
    assert re.fullmatch(r"[^<>\"'\x00]*", escaped(text))
    assert Tags(escaped(text)).tags == []
    escaped(text).encode()


def test_long_texts_are_cut_and_say_so() -> None:
    assert shortened("<" * 20_000).count("&lt;") == 20_000
    assert "5 more characters" in shortened("x" * 20_005)


@pytest.mark.parametrize("count", [1, 40])
def test_a_graph_goes_from_left_to_right(count: int) -> None:
    tasks = [
        Task(id=f"t{n}", agent="a", needs=tuple(f"t{m}" for m in range(max(n - 3, 0), n))) for n in range(count)
    ]
    drawn = plan_svg(Plan(tasks=tuple(tasks)), {}, {}, AT, is_over=True)
    lefts = [int(x) for x in re.findall(r'<rect class="task warn" x="(\d+)"', drawn)]
    assert len(lefts) == count
    assert lefts == sorted(lefts)
    for x1, x2 in re.findall(r'd="M(\d+),\d+ C\d+,\d+ \d+,\d+ (\d+),', drawn):
        assert int(x1) < int(x2)


def test_a_graph_that_no_plan_should_have_is_drawn_too() -> None:
    tasks = (Task(id="a", agent="x", needs=("b", "nowhere", "a")), Task(id="b", agent="x", needs=("a",)))
    assert plan_svg(Plan(tasks=tasks), {}, {}, AT, is_over=False).count('class="task open"') == 2
