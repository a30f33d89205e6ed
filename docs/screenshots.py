"""Makes the pictures in docs/images: `python -m docs.screenshots [FOLDER]`, from the repository's folder.

It needs Debian's `chromium` (or CHROMIUM, the path of another), no key and no network: it runs a Temporal server
with its web UI, and examples/research on these documents with the offline model.
"""

import asyncio
import base64
import os
import shutil
import sys
import tempfile
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perdure import Agent, App, Limits
from perdure._production import Address
from perdure.client import PerdureClient, StartedRun
from perdure.client.plan_files import read_plan
from perdure.codec_server import CodecServer
from perdure.connection import connect
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import PlanRunInput
from perdure.devserver import DevServer
from perdure.settings import EncryptionTable, Settings
from perdure.storage.opening import data_converter
from tests.support.browser import Browser
from tests.support.workers import worker

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "research"
TIME = timedelta(minutes=2)
MOST_BYTES = 150_000
_WIDE = 1600  # on a narrower page the web UI cuts the times of a run off
_SCROLL = (
    "[...document.querySelectorAll('h2')].filter(each => each.textContent.trim().startsWith('%s'))[0]"
    "?.scrollIntoView({block: 'start'})"
)


async def main(folder: Path) -> None:
    """Make all pictures."""
    sys.path.insert(0, str(EXAMPLE))
    example: Any = import_module("research.app")
    app: App = example.app
    cautious = Agent(
        "cautious",
        description="Asks before it goes on.",
        instructions=example.INSTRUCTIONS,
        model="offline:reader",
        tools=example.TOOLS,
        limits=Limits(max_turns=1),
        on_limit="ask",
    )
    shown = App(agents=[*app.agents.values(), cautious], workflows=[*app.workflows.values()])
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as corpus:
        for path in (ROOT / "docs").glob("*.md"):
            shutil.copy(path, corpus)
        os.environ["RESEARCH_ROOT"] = corpus
        async with DevServer(Path(state), port=0, ui_port=0, in_memory=True) as server:
            temporal = await connect(address=server.address)
            assert server.ui_url is not None
            async with worker(shown, temporal, queue="perdure", ui_url=server.ui_url) as client:
                await _take(client, server.ui_url, folder, Path(state))
            await _encrypted(server, folder, Path(state))


async def _take(client: PerdureClient, ui: str, folder: Path, state: Path) -> None:
    asked = await client.start_agent("researcher", "What happens when a worker dies?", id="researcher-crash")
    await client.result(asked.workflow_id, timeout=TIME)
    plan, faults = read_plan((EXAMPLE / "plan.yaml").read_text(), None)
    assert not faults
    request = PlanRunInput(plan=plan)
    planned = await client.start_workflow(PLAN_WORKFLOW, [request], id="report-plan")
    await client.result(planned.workflow_id, timeout=TIME)
    waiting = await client.start_agent("cautious", "How is money limited?", id="cautious-money")
    while not [each async for each in client.list(state="waiting_limit")]:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.2)
    await _ui(ui, waiting, asked, folder)
    page = state / "report.html"
    await asyncio.to_thread(page.write_text, await client.report(planned.workflow_id))
    for name, is_dark in (("report", False), ("report-dark", True)):
        async with Browser(height=1000, is_dark=is_dark) as browser:
            await browser.open(page.as_uri())
            await _keep(browser, folder / f"{name}.png")


async def _encrypted(server: DevServer, folder: Path, state: Path) -> None:
    """Show a run whose payloads a codec server decodes."""
    os.environ["SHOWN_KEY"] = base64.b64encode(os.urandom(32)).decode()
    settings = Settings.model_validate({"encryption": EncryptionTable(key_env="SHOWN_KEY"), "project_dir": state})
    temporal = await connect(address=server.address, converter=data_converter(settings))
    assert server.ui_url is not None
    codec = CodecServer(temporal.data_converter, server.ui_url)
    agent = Agent("secretary", model="offline:reader")
    async with worker(App(agents=[agent]), temporal) as client, codec.served(Address("127.0.0.1", 0)) as port:
        run = await client.start_agent("secretary", "What is in the safe? The letters of 1912.", id="secretary-1")
        await client.result(run.workflow_id, timeout=TIME)
        async with Browser(width=_WIDE, height=700) as browser:
            await browser.open(server.ui_url)
            await browser.ask(
                f"localStorage.setItem('endpoint', JSON.stringify('http://127.0.0.1:{port}'));"
                "localStorage.setItem('overrideRemoteCodecConfiguration', 'true')"
            )
            await browser.open(f"{_page(f'{server.ui_url}/namespaces/default/workflows', run)}/history")
            await browser.until("document.body.textContent.includes('The letters of 1912')")
            await asyncio.sleep(2)
            await _keep(browser, folder / "ui-decoded.png")


async def _ui(ui: str, waiting: StartedRun, asked: StartedRun, folder: Path) -> None:
    runs = f"{ui}/namespaces/default/workflows"
    pages = {
        "ui-runs": (runs, "report-plan", ""),
        "ui-timeline": (f"{_page(runs, asked)}/timeline", "search_text", "Timeline"),
        "ui-details": (f"{_page(runs, waiting)}/user-metadata", "Current Details", ""),
    }
    for name, (address, text, heading) in pages.items():
        async with Browser(width=_WIDE, height=700) if name == "ui-details" else Browser(height=800) as browser:
            await browser.open(address)
            await browser.until(f"document.body.textContent.includes({text!r})")
            await browser.ask(_SCROLL % heading)
            await asyncio.sleep(4)  # for what slides in, and for details, which are in a frame of their own
            await _keep(browser, folder / f"{name}.png")


def _page(runs: str, run: StartedRun) -> str:
    return f"{runs}/{quote(run.workflow_id, safe='')}/{run.run_id}"


async def _keep(browser: Browser, path: Path) -> None:
    await browser.picture(path)
    size = (await asyncio.to_thread(path.stat)).st_size
    print(f"{path}: {size:,} bytes")
    assert size <= MOST_BYTES, f"{path} is too large for a repository"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
