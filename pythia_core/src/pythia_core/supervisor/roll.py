"""A rolling restart: each child is replaced by a newcomer that is ready before it has to go.

It stands apart from the machine because it is the one thing here with a memory of its own steps: a newcomer, its
readiness, its predecessor's end, and the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from pythia_core.supervisor.events import Level
from pythia_core.supervisor.fleet import Child, Seat

__all__ = ["READY_SECONDS", "Roll"]

READY_SECONDS = 60.0
"""Seconds a newcomer has to get ready: imports, connections, ``startup()``, a rebalance."""


class Fleet(Protocol):
    """What a roll needs of the machine."""

    @property
    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    @property
    def children(self) -> Mapping[int, Child]:
        """The living."""
        ...

    @property
    def seats(self) -> Sequence[Seat]:
        """Where they sit."""
        ...

    def spawn(self) -> Child:
        """Start a child."""
        ...

    def stop(self, child: Child) -> None:
        """Have a child drain and end."""
        ...

    def say(self, level: Level, text: str) -> None:
        """Log a line."""
        ...


@attrs.define(eq=False)
class Roll:
    """One rolling restart under way.

    Args:
        remaining: numbers of the children still to be replaced.
        seat, new, deadline: the seat being renewed, the newcomer, and when that has to be ready.
        retiring: the child just replaced, while it drains.
    """

    remaining: list[int]
    seat: Seat | None = None
    new: Child | None = None
    deadline: float = 0.0
    retiring: int | None = None

    def advance(self, fleet: Fleet) -> bool:
        """Take the next step, if the last one has ended; return False once there is nothing more to do."""
        if self.retiring in fleet.children:
            return True
        if self.new is None:
            return self._next(fleet)
        if self.new.number not in fleet.children:
            return self._halt(fleet, self.new, f"ended ({_why(self.new)})")
        if self.new.ready:
            return self._take_over(fleet, self.new)
        if fleet.now >= self.deadline:
            return self._halt(fleet, self.new, f"is not ready after {READY_SECONDS:g} s ({_why(self.new)})")
        return True

    def _next(self, fleet: Fleet) -> bool:
        """Start a newcomer for the next child that is still where it was; one that died has been replaced anyway."""
        while self.remaining:
            number = self.remaining.pop(0)
            for seat in fleet.seats:
                if seat.child is not None and seat.child.number == number:
                    seat.successor = self.new = fleet.spawn()
                    self.seat, self.deadline = seat, fleet.now + READY_SECONDS
                    return True
        fleet.say("info", "the rolling restart is done")
        return False

    def _take_over(self, fleet: Fleet, new: Child) -> bool:
        """Give the seat to the newcomer, which has it already if its predecessor died."""
        seat, self.seat, self.new = self.seat, None, None
        if seat is None or seat.child is None or seat.child is new:
            return self._next(fleet)
        self.retiring = seat.child.number
        fleet.stop(seat.child)
        seat.child, seat.successor = new, None
        return True

    def _halt(self, fleet: Fleet, new: Child, what: str) -> bool:
        """End at a newcomer that failed; whoever has a seat keeps it."""
        if self.seat is not None and self.seat.successor is new:
            self.seat.successor = None
            if new.number in fleet.children:
                fleet.stop(new)
        fleet.say(
            "error", f"the rolling restart is halted: process {new.number} {what}; the others keep running"
        )
        return False


def _why(child: Child) -> str:
    """Return why a newcomer is not ready: of a traceback its last line, the rest is in the log."""
    return child.fault.rpartition("\n")[2] or "; ".join(child.reasons) or child.state
