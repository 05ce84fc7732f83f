"""Starts the real command on a worker file of the test's own, and watches what the processes write down."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil

from tests.waiting import wait_until

SECONDS = 20
"""A deadline, not an expectation: a start takes half a second, on a busy machine several."""

COMMAND = [sys.executable, "-c", "from pythia_core.command import main; main(prog_name='pythia')"]

WORKER = '''
import json, os, subprocess, time
from pathlib import Path
import anyio
from pythia_core import Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer

HERE = Path(__file__).parent
BROKER = MemoryBroker()


def note(what, **more):
    """Append one event, in one write."""
    with open(HERE / "events", "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\\n")


class Jobs(Worker):
    source = MemoryConsumer("jobs", broker=BROKER)
    config = WorkerConfig(drain_timeout=8)

    async def startup(self):
        note("startup")
        BROKER.publish("jobs", {"id": 1})

    async def process(self, message):
        """Work until the test opens the gate."""
        note("begin")
        while not (HERE / "gate").exists():
            await anyio.sleep(0.01)
        note("done")

    async def shutdown(self):
        note("shutdown")
'''

# Takes the terminal on its standard input as its own, as a login does, and becomes the command.
TAKE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


@attrs.define(eq=False)
class Running:
    """A supervisor that was started, and its folder."""

    folder: Path
    popen: subprocess.Popen[bytes]
    output: Callable[[], str]

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self.popen.pid

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self.popen.send_signal(number)

    def open_gate(self) -> None:
        """Let the jobs end."""
        (self.folder / "gate").touch()

    def events(self, what: str = "") -> list[dict[str, Any]]:
        """Return what the workers wrote down."""
        path = self.folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [event for event in found if what in ("", event["what"])]

    def pids(self, what: str) -> list[int]:
        """Return who wrote down an event, in its order."""
        return [event["pid"] for event in self.events(what)]

    def wait_for(self, what: str, times: int = 1) -> list[int]:
        """Wait until an event was written down so often, and return by whom."""
        wait_until(
            lambda: len(self.events(what)) >= times or self._ended_early(),
            f"{what} was written {times} times",
            seconds=SECONDS,
        )
        assert len(self.events(what)) >= times, self.output()
        return self.pids(what)

    def wait_for_text(self, text: str, times: int = 1) -> None:
        """Wait until a text was printed so often."""
        wait_until(
            lambda: self.output().count(text) >= times or self._ended_early(),
            f"{text!r} was printed",
            seconds=SECONDS,
        )
        assert self.output().count(text) >= times, self.output()

    def wait_until_ready(self, processes: int) -> None:
        """Wait until the supervisor says that so many are ready."""
        self.wait_for_text("is ready", processes)

    def _ended_early(self) -> bool:
        return self.popen.poll() is not None

    def ends(self) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.popen.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.output()}") from None

    def kill_everything(self) -> None:
        """Leave nothing behind, whatever the test found."""
        for pid in {self.pid, *(event["pid"] for event in self.events())}:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() >= STARTED:
                    process.kill()
        self.popen.wait(SECONDS)


STARTED = time.time() - 60  # no process older than this run is ours


def is_alive(pid: int) -> bool:
    """Tell a living process from one that has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_death(pids: list[int], seconds: float = SECONDS) -> None:
    """Wait until all these processes have ended."""
    wait_until(lambda: not any(map(is_alive, pids)), f"{pids} had ended", seconds=seconds)


def environment() -> dict[str, str]:
    """Return an environment without what a developer's own sets for Pythia."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHIA_")}
    return {**kept, "TERM": "xterm", "NO_COLOR": "1"}


@contextlib.contextmanager
def hangups_heard() -> Iterator[None]:
    """Have what is started hear hangups, also where the tests themselves run under nohup: to ignore one is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def run(
    folder: Path, *arguments: str, text: str = WORKER, command: list[str] | None = None
) -> Iterator[Running]:
    """Run a worker file with its output in a file: no terminal."""
    file = folder / "jobs.py"
    file.write_text(text)
    log = folder / "log"
    with log.open("wb") as output, hangups_heard():
        popen = subprocess.Popen(
            [*(command or [*COMMAND, "run", str(file)]), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(),
        )
    running = Running(folder, popen, lambda: log.read_text(errors="replace"))
    try:
        yield running
    finally:
        running.kill_everything()


@attrs.define(eq=False)
class Terminal:
    """The keyboard and the screen of a pseudo terminal; a thread reads, since what is not read blocks who writes."""

    master: int
    _seen: bytearray = attrs.field(factory=bytearray)

    def read_on(self) -> None:
        """Read until it closes."""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self._seen += data

    def text(self) -> str:
        """Return all that was ever written to it."""
        return self._seen.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)


@contextlib.contextmanager
def run_on_terminal(
    folder: Path, *arguments: str, text: str = WORKER, rows: int = 40, columns: int = 120
) -> Iterator[tuple[Running, Terminal]]:
    """Run a worker file on a terminal of its own, which it controls."""
    file = folder / "jobs.py"
    file.write_text(text)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with hangups_heard():
        popen = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *COMMAND, "run", str(file), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment(),
        )
    os.close(slave)
    terminal = Terminal(master)
    reader = threading.Thread(target=terminal.read_on, daemon=True)
    reader.start()
    running = Running(folder, popen, terminal.text)
    try:
        yield running, terminal
    finally:
        running.kill_everything()
        reader.join(SECONDS)
        with contextlib.suppress(OSError):
            os.close(master)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to one process."""
    os.kill(pid, number)
