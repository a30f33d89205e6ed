"""The report in a real browser: no error, no request, usable by keyboard, readable in the dark."""

from pathlib import Path

import pytest

from perdure.client._report.page import render
from perdure.client._timeline.read import ReadRun, make_timeline
from tests.support.browser import Browser
from tests.support.histories import load, read
from tests.support.programs import needs

pytestmark = needs("chromium")


@pytest.fixture(scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"continued-{number}" for number in range(4)]
    chain = [await read(load(name), run_id=name) for name in names]
    path = tmp_path_factory.mktemp("report") / "run.html"
    path.write_text(render(ReadRun(make_timeline("w", chain), tuple(each.reader.run for each in chain), {})))
    return path


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_it_opens_without_an_error_or_a_request(page: Path, is_dark: bool) -> None:
    async with Browser(is_dark=is_dark) as browser:
        await browser.open(page.as_uri())
        assert browser.errors == []
        assert [each for each in browser.requests if not each.startswith("data:,")] == [page.as_uri()]
        colours = await browser.ask(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        text, ground = (sum(int(part) for part in each[4:-1].split(",")) for each in colours)
        assert (text > ground) == is_dark
        assert abs(text - ground) > 450, "there is contrast"


async def test_it_is_used_by_keyboard(page: Path) -> None:
    async with Browser() as browser:
        await browser.open(page.as_uri())
        focused = "document.activeElement.id"
        await browser.press("/")
        assert await browser.ask(focused) == "search"
        await browser.press("page 29")
        await browser.press("Enter")
        await browser.until("document.getElementById('found').value === '1 of 1'")
        assert await browser.ask("document.querySelectorAll('.message:not([hidden])').length") == 1
        assert await browser.ask("document.querySelector('.message:not([hidden]) details').open") is True
        await browser.press("Escape")
        assert await browser.ask("document.querySelectorAll('.message[hidden]').length") == 0
        await browser.press("j")
        await browser.press("j")
        assert await browser.ask(focused) == "run-0-1"
        await browser.press("k")
        assert await browser.ask(focused) == "run-0-0"
        await browser.press("u")
        assert await browser.ask("[...document.querySelectorAll('#transcript details')].every(each => each.open)")
        await browser.ask("location.hash = '#run-0-4'")
        await browser.until("document.getElementById('run-0-4').getBoundingClientRect().top < 300")
        assert browser.errors == []
