"""Headless Chromium, driven over a pipe by its DevTools protocol; no port, no further package."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_SECONDS = 300
# Shared memory is small in containers, and root may not have Chromium's sandbox.
OPTIONS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
    ),
    *("--no-first-run", "--disable-background-networking", "--disable-extensions"),
    "--remote-debugging-pipe",
)


def installed() -> str | None:
    """Return the path of Chromium, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
    """Chromium has ended, or has not answered in time."""


class Browser:
    """A page of headless Chromium, to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{read} 4>&{write}'
        options = [*OPTIONS, f"--user-data-dir={self._profile.name}"]
        self._log = Path(self._profile.name, "log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", script, str(installed()), *options],
                pass_fds=(read, write),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(read)
        os.close(write)
        self._session = ""

    def __enter__(self) -> Self:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._out)  # Chromium ends when its pipe does.
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._profile.cleanup()

    def show(self, url: str, *, width: int, dark: bool = False, medium: str = "screen") -> None:
        """Open a page at a width in pixels, and wait until it is drawn."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=medium, features=[scheme])
        self._call("Page.navigate", url=url)
        self.run(
            "new Promise(done => document.readyState === 'complete' ? done() :"
            " addEventListener('load', done))"
        )

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page, or of the promise that it is."""
        found = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab or Enter."""
        typed = {"Enter": "\r"}.get(key)
        code = {"Tab": 9, "Enter": 13}[key]
        down: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._call(
            "Input.dispatchKeyEvent", type="keyDown", **down, **({"text": typed} if typed else {})
        )
        self._call("Input.dispatchKeyEvent", type="keyUp", **down)

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self._call("Page.printToPDF", printBackground=False)["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            os.write(self._out, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise BrowserError(self._log.read_text(errors="replace")) from None
        end = time.monotonic() + TIMEOUT_SECONDS
        while True:
            answer = self._message(end, method)
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _message(self, end: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0))
            part = os.read(self._in, 1 << 20) if ready else b""
            if not part:
                log = self._log.read_text(errors="replace")
                raise BrowserError(f"{method}: no answer from Chromium; it said: {log}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found
