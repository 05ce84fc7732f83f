"""A headless Chromium that is spoken to over two pipes: what a page looks like, and what its script makes of it.

No driver and no WebSocket is needed: with ``--remote-debugging-pipe`` the browser reads commands of the DevTools protocol
from descriptor 3 and answers on 4, and ends when they close, so it never outlives the run.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import attrs

from tests.servers.server import find_program
from tests.waiting import wait_until

PROGRAM = "chromium-headless-shell"
SECONDS = 60.0
"""For one answer. A browser that starts on a busy machine takes ten."""

# Debian's page of Chromium's switches: no sandbox for root, no graphics card, no shared memory of 64 MB in a container.
SWITCHES = [
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
]


def _high_pipe() -> tuple[int, int]:
    """Return a pipe whose ends are neither 3 nor 4, where the browser wants to have its own."""
    low = os.pipe()
    high = fcntl.fcntl(low[0], fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(low[1], fcntl.F_DUPFD_CLOEXEC, 10)
    for end in low:
        os.close(end)
    return high


@attrs.define(eq=False)
class Browser:
    """A browser, with one page open at a time."""

    folder: Path = attrs.field(factory=lambda: Path(tempfile.mkdtemp(prefix="pythia-chromium-")))
    _process: subprocess.Popen[bytes] | None = None
    _commands: int = -1
    _answers: int = -1
    _read: bytes = b""
    _number: int = 0
    _session: str | None = None
    events: list[dict[str, Any]] = attrs.field(factory=list)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it; MissingBroker says how to get one."""
        program = find_program(PROGRAM)
        (their_in, self._commands), (self._answers, their_out) = _high_pipe(), _high_pipe()
        command = f'exec "$@" 3<&{their_in} 4>&{their_out}'
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command, "bash", program, *SWITCHES, f"--user-data-dir={self.folder}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(their_in, their_out),
                start_new_session=True,
            )
        os.close(their_in)
        os.close(their_out)

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            os.close(self._commands)
            os.close(self._answers)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- a page --------------------------------------------------------------------------------------------------

    def open(
        self,
        url: str,
        *,
        width: int = 1366,
        height: int = 768,
        scheme: Literal["light", "dark"] = "light",
        mobile: bool = False,
    ) -> None:
        """Open a page in a new tab of this size, instead of the one that was open."""
        if self._session is not None:
            self.send("Page.close")
        self.events.clear()
        target = self.send("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        said = self.send("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)
        self._session = said["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.send("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", {"features": [feature]})
        self.send("Page.navigate", {"url": url})
        self.wait_for(
            "location.href !== 'about:blank' && document.readyState === 'complete'", f"{url} is there"
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; what it throws is raised."""
        said = self.send("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        if "exceptionDetails" in said:
            raise AssertionError(said["exceptionDetails"])
        return said["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """Return what a reader sees of the first element that fits; nothing if there is none."""
        return str(self.evaluate(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''"))

    def wait_for(self, expression: str, what: str) -> None:
        """Wait until an expression is true in the page; what throws, since something is not there yet, is not."""
        tolerant = f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"
        try:
            wait_until(lambda: self.evaluate(tolerant), what)
        except TimeoutError as error:
            raise TimeoutError(f"{error} The page says: {self.text()}") from None

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of what is in sight, or of the whole page."""
        said = self.send("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(said["data"]))

    def complaints(self) -> list[str]:
        """Return what was logged as an error or thrown, and what was asked of the network and failed."""
        self.evaluate("0")  # has all events read that came before
        found = []
        for event in self.events:
            details = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(details["exceptionDetails"])[:500])
            elif event["method"] == "Log.entryAdded" and details["entry"]["level"] == "error":
                found.append(details["entry"]["text"])
        return found

    def asked_for(self) -> set[str]:
        """Return the addresses of everything that the page asked for."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return {event["params"]["request"]["url"] for event in sent}

    # -- the pipes -----------------------------------------------------------------------------------------------

    def send(
        self, method: str, details: Mapping[str, Any] | None = None, *, session: str | None = ""
    ) -> dict[str, Any]:
        """Send one command, to the page unless ``session`` is None, and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": details or {}}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            said = self._receive(deadline)
            if said.get("id") != self._number:
                self.events.append(said)
            elif "error" in said:
                raise AssertionError(f"{method}: {said['error']}")
            else:
                return dict(said["result"])

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError(f"the browser has not answered for {SECONDS} s")
            if not (data := os.read(self._answers, 1 << 20)):
                raise AssertionError(f"the browser has ended: {(self.folder / 'log').read_text()[-2000:]}")
            self._read += data
        line, _, self._read = self._read.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        return said
