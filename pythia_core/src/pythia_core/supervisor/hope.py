"""When to give up: the two cases in which nothing but people can help, invariant 8 of the machine."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from pythia_core.supervisor.fleet import Child, Seat

__all__ = ["Hope"]

HOPE_SECONDS = 300.0
"""Without any child ready, for a reason of its own. Long enough for a database that restarts, short enough for whoever
watches exit codes."""


@attrs.define(eq=False)
class Hope:
    """Remembers when things were last as they should be."""

    anyone_was_ready: bool = False
    _last_fine: float | None = None

    def note(self, child: Child, now: float) -> None:
        """Take note of a report. Waiting for a broker is no fault, however long it takes."""
        self.anyone_was_ready = self.anyone_was_ready or child.ready
        if child.ready or child.waiting_for == "broker":
            self._last_fine = now

    def lost(self, seats: Collection[Seat], children: Collection[Child], now: float) -> str | None:
        """Return why there is no hope left, or None."""
        if self._last_fine is None:
            self._last_fine = now
        if not self.anyone_was_ready and seats and all(seat.hopeless for seat in seats):
            return "no process can start, and trying again would change nothing"
        if now - self._last_fine < HOPE_SECONDS:
            return None
        reasons = {reason for child in children for reason in child.reasons}
        why = "; ".join(sorted(reasons)) or "they end before they are ready"
        return f"no process was ready for {HOPE_SECONDS / 60:.0f} minutes: {why}"
