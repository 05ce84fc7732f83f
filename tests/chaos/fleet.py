"""A deployment: `pythia run -n N` as anybody starts it, with the ways to end it, gracefully or not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import psutil

from tests.chaos.events import Log
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from pythia_core.command import main; main(prog_name='pythia')"]
Ask = Callable[[], object]
WAIT = 60.0  # seconds; a deadline and no expectation


@attrs.define(eq=False)
class Deployment:
    """Some processes under one supervisor.

    Args:
        worker: what runs, as `pythia run` takes it.
        processes: how many.
        environ: what they need to know.
        history: where they write down what they do.
        output: the file that takes what they print.
        log: where graceful stops are written down.
    """

    worker: str
    processes: int
    environ: Mapping[str, str]
    history: Path
    output: Path
    log: Log
    _popen: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Start it, and return when every process has started."""
        environ = {**os.environ, **self.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        command = [*COMMAND, "run", self.worker, "-n", str(self.processes)]
        with self.output.open("ab") as output:
            self._popen = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        def up() -> int:
            return sum(any(self.history.glob(f"worker-{pid}-*")) for pid in self.children())

        wait_until(lambda: up() == self.processes, f"all processes were up, see {self.output}", seconds=WAIT)

    def children(self) -> list[int]:
        """Return the process ids of its workers."""
        if self._popen is None or self._popen.poll() is not None:
            return []
        return [child.pid for child in psutil.Process(self._popen.pid).children() if is_alive(child.pid)]

    def stop(self) -> None:
        """Stop all of it, and write down how that went."""
        self._graceful(self._supervisor.terminate, lambda: self._supervisor.poll() is not None)

    def roll(self) -> None:
        """Replace one process after the other."""
        old = self.children()
        self._graceful(
            lambda: self._supervisor.send_signal(signal.SIGHUP), lambda: not any(map(is_alive, old))
        )
        self._wait_for_all()

    def orphan(self) -> None:
        """Kill the supervisor: its children have to notice, and to stop gracefully."""
        old = self.children()
        self._graceful(self._supervisor.kill, lambda: not any(map(is_alive, old)))
        self._supervisor.wait()

    def _graceful(self, ask: Ask, over: Ask) -> None:
        processes, began = self.children(), time.monotonic()
        ask()
        wait_until(over, "a graceful stop was over", seconds=WAIT)
        code = self._supervisor.poll() or 0
        code = 0 if code == -signal.SIGKILL else code  # which only `orphan` sends
        self.log.write("stopped", processes=processes, code=code, seconds=time.monotonic() - began)

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self._popen is None:
            return
        children = self.children()
        self._popen.kill()
        self._popen.wait()
        for pid in children:
            send(pid, signal.SIGKILL)

    @property
    def _supervisor(self) -> subprocess.Popen[bytes]:
        assert self._popen is not None, "it was not started"
        return self._popen


def is_alive(pid: int) -> bool:
    """Tell a living process from one that has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
