"""Counts decisions as they are made: by direction and reason, and how often one was taken back soon after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from pythia_metrics.families import Family

__all__ = ["REVERSAL_SECONDS", "Scaled", "direction"]

REVERSAL_SECONDS = 600.0
"""A change in the other direction within this time is a reversal: work of a start or a drain done for nothing."""


def direction(before: int, after: int) -> str:
    """Return ``up``, ``down`` or ``none``."""
    return "up" if after > before else "down" if after < before else "none"


@attrs.define(eq=False)
class Scaled:
    """Remembers which decisions it has counted."""

    counts: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    reversals: int = 0
    _counted: float = float("-inf")
    _last: tuple[float, str] | None = None

    def note(self, decisions: Sequence[Any]) -> None:
        """Count those that are new."""
        for decision in decisions:
            if decision.wall > self._counted:
                self._counted = decision.wall
                self._count(decision)

    def _count(self, decision: Any) -> None:
        way = direction(decision.before, decision.after)
        self.counts[way, decision.reason] += 1
        if way == "none":
            return
        if (
            self._last is not None
            and self._last[1] != way
            and decision.wall - self._last[0] < REVERSAL_SECONDS
        ):
            self.reversals += 1
        self._last = (decision.wall, way)

    def families(self) -> list[Family]:
        """Return the counters."""
        decisions = Family("pythia_scaling_decisions_total", "counter", "Decisions by direction and reason.")
        for (way, reason), count in self.counts.items():
            decisions.add(count, {"direction": way, "reason": reason[:60]})
        reversals = Family(
            "pythia_scaling_reversals_total", "counter", "Changes that were taken back within 10 minutes."
        )
        reversals.add(self.reversals)
        return [decisions, reversals]
