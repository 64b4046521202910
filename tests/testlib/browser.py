"""A real Chromium, without a screen, in a place of the test's network; spoken to by its own protocol over a pair of pipes.

It needs neither a port nor another program. `browser.page()` has the words of a test.
"""

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.testlib.patience import PATIENCE

PROGRAM = "chromium-headless-shell"
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--disable-extensions", "--no-proxy-server", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP rebound.example 127.0.0.1", "--remote-debugging-pipe",
)  # fmt: skip


class BrowserError(AssertionError):
    """What the browser says went wrong."""


class Browser:
    """One process. Made by `running_browser`."""

    def __init__(self, process: subprocess.Popen[bytes], *, into: int, out: int) -> None:
        self.process, self._into, self._out = process, into, out
        self._numbers = itertools.count(1)
        self._text = bytearray()
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, **given: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": given} | ({} if session is None else {"sessionId": session})
        os.write(self._into, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            found = self._next(until)
            if found.get("id") == number:
                if "error" in found:
                    raise BrowserError(f"{method}: {found['error']['message']}")
                answer: dict[str, Any] = found["result"]
                return answer
            self.events.append(found)

    def wait(self, method: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
        """The parameters of the next event of that name."""
        until = time.monotonic() + seconds
        while True:
            for each in self.events:
                if each.get("method") == method:
                    self.events.remove(each)
                    params: dict[str, Any] = each["params"]
                    return params
            self.events.append(self._next(until))

    def page(self) -> "Page":
        """A new one, empty."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        made = Page(self, session, target)
        made.ask("Page.enable")
        made.ask("Runtime.enable")
        made.look(width=1280, height=800)
        return made

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._text:
            ready, _, _ = select.select([self._out], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._out, 1 << 20)
            assert part, "the browser has ended"
            self._text += part
        message, _, rest = bytes(self._text).partition(b"\0")
        self._text = bytearray(rest)
        found: dict[str, Any] = json.loads(message)
        return found


class Page:
    """What a user sees and does. Elements are named by CSS selectors."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self._session, self._target = browser, session, target

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        return self.browser.ask(method, self._session, **given)

    def look(self, *, width: int, height: int, dark: bool = False) -> None:
        """The size of the window, and whether the user likes it dark."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go there; returns when it is loaded."""
        self.ask("Page.navigate", url="about:blank")
        found = self.ask("Page.navigate", url=address)
        assert not found.get("errorText"), found
        self.eventually("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """What an expression is worth, awaited if it is a promise."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(found["exceptionDetails"].get("exception", {}).get("description", str(found)))
        return found["result"].get("value")

    def eventually(self, expression: str, *, seconds: float = PATIENCE) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < until, f"not so after {seconds:g} s: {expression}\n{self.text('body')[:3000]}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """The text that is seen in an element, "" where there is none."""
        return str(self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, once it is there."""
        name = json.dumps(selector)
        self.eventually(f"document.querySelector({name})?.checkVisibility() && !document.querySelector({name}).disabled")
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({name}); e.scrollIntoView({{block: 'nearest'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        self.press(x, y)

    def press(self, x: float, y: float) -> None:
        """A click at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put text into a field."""
        self.click(selector)
        self.ask("Input.insertText", text=text)

    def key(self, name: str) -> None:
        """Press a key: Enter, Tab, Escape, ArrowRight."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            given = text if kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name], **given)

    def complaints(self) -> list[str]:
        """Errors of scripts, and what the page's own policy has stopped."""
        thrown = (each for each in self.browser.events if each.get("method") == "Runtime.exceptionThrown")
        found = (each["params"]["exceptionDetails"] for each in thrown)
        return [each.get("exception", {}).get("description", each["text"]) for each in found]

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", targetId=self._target)


@contextmanager
def running_browser(home: Path, *, enter: tuple[str, ...] = ()) -> Iterator[Browser]:
    """One that keeps its files in `home`; `enter` are words that run it elsewhere, as `nsenter --net=…`."""
    program = shutil.which(PROGRAM)
    assert program is not None, f"{PROGRAM} is missing: run setup/run test"
    (theirs, into), (out, other) = os.pipe(), os.pipe()

    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{other}', "-", *enter, program, *ARGUMENTS, f"--user-data-dir={home}"],
        pass_fds=(theirs, other), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(home)}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.close(other)
    made = Browser(process, into=into, out=out)
    try:
        yield made
    finally:
        with suppress(AssertionError, OSError):
            made.ask("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(into)
        os.close(out)
