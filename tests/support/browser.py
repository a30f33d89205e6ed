"""A headless Chromium, driven over its debugging pipe: nothing but the browser itself is needed.

Debian's package is `chromium`; CHROMIUM names another program.
"""

import asyncio
import base64
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.support.programs import find

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_SECONDS = 60


class Browser:
    """One page in a browser of its own.

    Attributes:
        errors: What it wrote to its console, and exceptions of scripts.
        requests: The addresses that it asked for.
    """

    def __init__(self, *, width: int = 1280, height: int = 900, is_dark: bool = False) -> None:
        """Start nothing yet."""
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._is_dark = is_dark
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._session: str | None = None
        self._count = 0

    async def __aenter__(self) -> Self:
        program = find("chromium")
        assert program, "there is no Chromium here: apt-get install chromium"
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def pass_pipes() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = await asyncio.create_subprocess_exec(
            program,
            *_FLAGS,
            f"--user-data-dir={self._folder.name}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=pass_pipes,
            pass_fds=(3, 4),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._reading = asyncio.create_task(asyncio.to_thread(self._read, asyncio.get_running_loop()))
        page = await self._send("Target.createTarget", url="about:blank")
        attached = await self._send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._send(f"{domain}.enable")
        await self._send("Page.bringToFront")
        await self._send("Emulation.setFocusEmulationEnabled", enabled=True)
        await self._send("Emulation.setDeviceMetricsOverride", **self._size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self._is_dark else "light"}
        await self._send("Emulation.setEmulatedMedia", features=[scheme])
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._out)  # it ends with its pipe
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._reading
        os.close(self._in)
        self._folder.cleanup()

    async def open(self, address: str) -> None:
        """Load a page."""
        self._loaded.clear()
        await self._send("Page.navigate", url=address)
        async with asyncio.timeout(_SECONDS):
            await self._loaded.wait()

    async def ask(self, script: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        answer = await self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(_SECONDS):
            while not await self.ask(script):
                await asyncio.sleep(0.1)

    async def press(self, key: str, *, is_shifted: bool = False) -> None:
        """Press a key, as a person would; of a longer text, a key for each letter."""
        for each in [key] if key in ("Enter", "Escape", "Tab") else key:
            code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(each, ord(each[0].upper()))
            text = {"Enter": "\r"}.get(each, each if len(each) == 1 else "")
            known = {"key": each, "windowsVirtualKeyCode": code, "modifiers": 8 if is_shifted else 0}
            await self._send("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
            await self._send("Input.dispatchKeyEvent", type="keyUp", **known)

    async def picture(self, path: Path) -> None:
        """Write what is to be seen as a PNG."""
        answer = await self._send("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def _send(self, method: str, **params: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        answer = self._answers[self._count] = asyncio.get_running_loop().create_future()
        os.write(self._out, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(_SECONDS):
            return await answer

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read messages until the browser ends; in a thread."""
        held = b""
        while piece := os.read(self._in, 1 << 16):
            *messages, held = (held + piece).split(b"\0")
            for message in messages:
                loop.call_soon_threadsafe(self._take, json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.pop(message["id"])
            if "error" in message:
                answer.set_exception(RuntimeError(str(message["error"])))
            else:
                answer.set_result(message["result"])
            return
        params = message.get("params", {})
        match message["method"]:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.errors.append(str(params["args"]))
            case "Log.entryAdded":
                self.errors.append(str(params["entry"]["text"]))
            case _:
                pass
