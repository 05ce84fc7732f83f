"""Ends a process that does not end: a thread the user started, or a loop that is blocked, must not outlive a drain."""

from __future__ import annotations

import logging
import math
import os
import threading
import time

import attrs

__all__ = ["LastResort"]

log = logging.getLogger("pythia.worker")


@attrs.define(eq=False)
class LastResort:
    """Exits the process when its time is up, from a thread of its own, past everything that blocks. Any thread may use it."""

    _timer: threading.Timer | None = None
    _due: float = math.inf
    _lock: threading.RLock = attrs.field(factory=threading.RLock)

    def arm(self, seconds: float, code: int) -> None:
        """Exit with ``code`` after so many seconds, unless that is to happen sooner anyway."""
        with self._lock:
            if (due := time.monotonic() + seconds) >= self._due:
                return
            self.disarm()
            self._due = due
            self._timer = threading.Timer(seconds, _exit, (seconds, code))
            self._timer.daemon = True
            self._timer.start()

    def disarm(self) -> None:
        """Let the process live."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._due = math.inf


def _exit(seconds: float, code: int) -> None:
    log.error(
        "the process did not end within %g s: something blocks it, so it exits with code %d now",
        seconds,
        code,
    )
    os._exit(code)
