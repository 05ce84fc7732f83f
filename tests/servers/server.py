"""A broker's process: started on a free port, stopped, killed, paused and restarted on its data at will."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

import attrs
import psutil

from tests.servers import die_with_parent
from tests.waiting import wait_until

PORTS = range(20_000, 32_000)
"""Below Linux's ephemeral range (32,768): a client that keeps dialling a port of that range while its server is down
is one day given the same port as its own, connects to itself, and keeps the server from coming back."""

STOP_SECONDS = 10

# The kernel kills the child when the *thread* that started it ends, so one thread starts them all and lives as long
# as the process: a test may start a server from any short-lived worker thread.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawn-servers")


class MissingBroker(Exception):
    """The broker's program is not on this machine."""


class ServerFailed(Exception):
    """The server did not start; the message ends with the last lines of its log."""


@attrs.define(eq=False, kw_only=True)
class Server(ABC):
    """One broker on the loopback interface, with a folder for its data and its log.

    `port` stays the same for life, so clients find a restarted server where it was. `with` starts it, and at the
    end stops it and removes the folder. Signals go to the process started here and to no other. Every method
    blocks, for 10 ms to a few seconds: call it in a thread where an event loop must go on meanwhile.
    """

    program: ClassVar[str]
    start_seconds: ClassVar[float] = 10

    port: int = attrs.field(factory=lambda: free_port())
    folder: Path = attrs.field(factory=lambda: Path(tempfile.mkdtemp(prefix="pythia-broker-")))
    _process: subprocess.Popen[bytes] | None = attrs.field(init=False, default=None)

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return what is run, the program's path first; it must stay in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether clients are served, and by this very process; asked again and again while it starts."""

    @property
    def address(self) -> str:
        """Host and port, as clients write it."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The file that takes what the server prints, over all its restarts."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The process started last."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process lives, be it paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return once it serves clients; raise ServerFailed if it ends or takes too long."""
        if self.running:
            raise RuntimeError(f"{self.program} on port {self.port} is running already.")
        self._process = spawn(self.command(), folder=self.folder, log=self.log)
        try:
            wait_until(self._ready_or_ended, "it served clients", seconds=self.start_seconds)
        except TimeoutError as error:
            self.kill()
            raise ServerFailed(self._obituary(f"was not ready: {error}")) from error
        if not self.running:
            raise ServerFailed(self._obituary(f"ended with exit code {self._process.returncode}"))

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait; kill it after 10 s. A server that has ended stays ended."""
        if not self.running:
            return
        self.resume()  # a paused process would not hear the request
        self._started().terminate()
        try:
            self._started().wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL): nothing is flushed, no client is told."""
        self._started().kill()
        self._started().wait(STOP_SECONDS)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers, as behind a black hole."""
        self._started().send_signal(signal.SIGSTOP)
        wait_until(self._frozen, f"{self.program} stood still")

    def resume(self) -> None:
        """Let it go on (SIGCONT); harmless when it is not paused."""
        self._started().send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.program} on port {self.port} was never started.")
        return self._process

    def _ready_or_ended(self) -> bool:
        return not self.running or self.is_ready()

    def _frozen(self) -> bool:
        return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)

    def _obituary(self, what: str) -> str:
        return f"{self.program} on port {self.port} {what}. Its log ends with:\n{self.log_tail()}"


def find_program(name: str) -> str:
    """Return the path of a broker's program; raise MissingBroker, which says how to get it."""
    path = shutil.which(name)
    if path is None:
        raise MissingBroker(f"{name} is not on this machine: install it with `nox -s brokers`, or by hand.")
    return path


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    for port in random.sample(PORTS, k=100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"100 ports tried between {PORTS.start} and {PORTS.stop}, and none is free.")


def spawn(command: Sequence[str | Path], *, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one, in a session of its own, so that Ctrl-C does not reach it."""
    shim = [sys.executable, "-IS", die_with_parent.__file__, str(os.getpid())]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [*shim, *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    return _spawner.submit(start).result()
