"""What an operator has said that lasts: a number of processes against which no policy has a say, and a pause.

It stands apart from the machine, which asks it and is told by it, because it is all of what outlives the moment in which
it was said. Invariants 11 and 12 of the machine are kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pythia_core.supervisor.events import Pin
from pythia_core.supervisor.fleet import processes

if TYPE_CHECKING:
    from pythia_core.supervisor.machine import Machine

__all__ = ["Operator"]


@attrs.define(eq=False)
class Operator:
    """An operator's standing wishes.

    Args:
        paused: nothing is fetched.
        pinned: the number of processes is the operator's.
        until: when that ends by itself, or None.
        back_to: the number of processes after that.
    """

    paused: bool = False
    pinned: bool = False
    until: float | None = None
    back_to: int = 1

    def overrules(self, target: int) -> bool:
        """Take note of what a policy wants, and tell whether it has to wait."""
        self.back_to = target
        return self.pinned

    def pin(self, machine: Machine, wanted: Pin) -> None:
        """Pin the number of processes, or give it back."""
        if machine.stopping:
            machine.say("info", "asked for another number of processes, but a stop is under way")
        elif wanted.target is not None:
            if not self.pinned:
                self.back_to = machine.target
            self.pinned, machine.target = True, max(1, wanted.target)
            self.until = None if wanted.seconds is None else machine.now + wanted.seconds
            how_long = "" if wanted.seconds is None else f" for {wanted.seconds:,.0f} s"
            machine.say("info", f"pinned to {processes(machine.target)}{how_long}")
        elif self.pinned:
            self._unpin(machine, "given back")
        else:
            machine.say("info", "the number of processes is not pinned")

    def pause(self, machine: Machine, paused: bool) -> None:
        """Have nothing fetched, or go on."""
        if paused == self.paused:
            machine.say("info", "paused already" if paused else "not paused, so there is nothing to resume")
            return
        self.paused = paused
        machine.say("info", "paused: nothing more is fetched" if paused else "resumed")

    def advance(self, machine: Machine) -> None:
        """End what is over, and tell children what they have not heard."""
        if self.until is not None and machine.now >= self.until and not machine.stopping:
            self._unpin(machine, "its time is up")
        for child in machine.children.values():
            if child.loaded and not child.leaving and child.paused != self.paused:
                child.paused = self.paused
                machine.order(child, "pause" if self.paused else "resume")

    def _unpin(self, machine: Machine, why: str) -> None:
        self.pinned, self.until, machine.target = False, None, self.back_to
        machine.say("info", f"no longer pinned, {why}: {processes(machine.target)}")
