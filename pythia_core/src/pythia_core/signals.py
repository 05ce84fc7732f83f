"""How often a stop has to be asked for: the one rule for the signals of a supervisor and of a worker without one."""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = ["FORCE_AFTER", "StopSignals"]

FORCE_AFTER = 2.0
"""Seconds. A terminal, a process manager and a process group each send a signal of their own for one wish, all within
milliseconds; 6 of 10 workers skipped their drain before this rule. A person who insists is slower."""


@attrs.define(eq=False)
class StopSignals:
    """Counts SIGTERM and SIGINT: the first means stop, one that comes 2 s after the first or later means force."""

    _first: float | None = None
    _forced: bool = False

    def heard(self, now: float) -> Literal["stop", "force"] | None:
        """Return what this signal means, or None if it is only an echo of the first."""
        if self._first is None:
            self._first = now
            return "stop"
        if self._forced or now - self._first < FORCE_AFTER:
            return None
        self._forced = True
        return "force"
