"""A child's end of the pipe, and all that may tell it to stop: the supervisor, a SIGTERM, the supervisor's death.

A thread listens, so that a child whose event loop is blocked, or which is still importing, still hears. A child obeys
only the pipe; SIGTERM means the same as ``stop`` however often it comes, since a process group's signal reaches every
process in it; SIGINT and SIGHUP mean nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from pythia_core.supervisor.wire import Mailbox, Options

__all__ = ["Link", "Order"]

Order = Literal["stop", "force", "recycle", "observe", "pause", "resume", "sigterm", "orphaned"]
OPTIONS_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


class Link:
    """A child's end.

    Args:
        descriptor: of the inherited socket.

    Invariants: until ``bind`` nothing has been fetched, so any order ends the process at once, with 0. After it each
    order is handed over in its order; a second SIGTERM asks for no more than the first.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._mailbox = Mailbox(socket.socket(fileno=descriptor))
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._obey: Callable[[Order], Any] | None = None
        self._early: list[dict[str, Any]] = []  # what came together with the options
        self._lock = threading.Lock()
        self._speaking = threading.Lock()

    # -- from the beginning --------------------------------------------------------------------------

    def catch_signals(self) -> None:
        """Set the handlers. They are functions, since what is ignored stays ignored in programs that a worker starts."""
        signal.signal(signal.SIGTERM, self._sigterm)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: None)

    def _sigterm(self, *_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def read_options(self) -> Options:
        """Return what the supervisor says first; exit if it has died."""
        deadline = time.monotonic() + OPTIONS_SECONDS
        while not self._mailbox.closed and (left := deadline - time.monotonic()) > 0:
            select.select([self._mailbox.socket], [], [], left)
            if messages := self._mailbox.receive():
                said, *self._early = messages
                return Options(**said)
        sys.exit("started by hand? pythia_core.supervisor.child is started by `pythia run`")

    def die_with(self, supervisor: int) -> None:
        """Have the kernel send SIGTERM when the supervisor dies; the pipe's end says the same where it cannot."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:
            os._exit(0)

    def listen(self) -> None:
        """Start to listen."""
        threading.Thread(target=self._listen, name="pythia link", daemon=True).start()

    def bind(self, obey: Callable[[Order], Any]) -> None:
        """Hand every order to ``obey`` from now on. It is called in the listening thread."""
        with self._lock:
            self._obey = obey

    # -- listening -----------------------------------------------------------------------------------

    def _listen(self) -> None:
        for message in self._early:
            self._heard(message["do"])
        while True:
            readable, _, _ = select.select([self._mailbox.socket, self._wake], [], [])
            if self._wake in readable and self._wake.recv(4096):
                self._heard("sigterm")
            if self._mailbox.socket in readable:
                for message in self._mailbox.receive():
                    self._heard(message["do"])
                if self._mailbox.closed:
                    self._heard("orphaned")
                    return

    def _heard(self, order: Order) -> None:
        with self._lock:
            if self._obey is None:
                os._exit(0)
            self._obey(order)

    # -- speaking ------------------------------------------------------------------------------------

    def say(self, kind: str, **content: Any) -> None:
        """Send a message, from any thread."""
        with self._speaking:
            self._mailbox.send({"type": kind, **content})

    def flush(self, seconds: float = 1.0) -> None:
        """Wait until the supervisor has taken everything, or has no time for it."""
        deadline = time.monotonic() + seconds
        while not self._mailbox.flush() and (left := deadline - time.monotonic()) > 0:
            select.select([], [self._mailbox.socket], [], left)
