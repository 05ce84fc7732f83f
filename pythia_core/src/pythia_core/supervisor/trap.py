"""Catches signals from the first moment, so that none is lost while the rest of the program is still being imported.

The kernel drops signals to process 1 that it has no handler for, and process 1 is what a container stops. So
:func:`install` may be called before anything else (it needs nothing but this file), and what came before
the supervisor listens waits in a socket.
"""

from __future__ import annotations

import signal
import socket
from types import FrameType

__all__ = ["CAUGHT", "Trap", "install"]

CAUGHT = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
    signal.SIGWINCH,
    signal.SIGCONT,
)


class Trap:
    """The handlers and the socket that they write to, one byte a signal. It belongs to the main thread."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._before = {}
        for number in CAUGHT:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: whoever started us wants a hangup to mean nothing
            self._before[number] = signal.signal(number, _note)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def caught(self) -> list[int]:
        """Return the signals that came since the last call, in their order."""
        try:
            return list(self.reader.recv(4096))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Put back what was there before."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.reader.close()
        self._writer.close()


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: that there is a handler is what has the signal's number written to the socket."""


_trap: Trap | None = None


def install() -> Trap:
    """Return the process's trap, set up by the first call."""
    global _trap
    if _trap is None:
        _trap = Trap()
    return _trap
