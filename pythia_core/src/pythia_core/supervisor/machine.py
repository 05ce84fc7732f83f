"""The supervisor's mind: told what happened, it answers what to do. No clock, no process, no signal in it.

Each event first changes what is known; then one pass (``_advance``) derives what follows, so that no order of events
can leave something undone. Its invariants, each with a test of the same name:

1. *One slot, one process.* A slot belongs to at most one living child.
2. *A stop is final.* Once stopping, nothing is started.
3. *Said once.* A child is told ``stop`` or ``recycle`` at most once and ``force`` at most once; ``force`` needs a second signal that
   came 2 s after the first or later.
4. *Killed late.* A child is killed only after it began to end, ``drain_timeout`` + 10 s later (5 s while it imports; 10 s
   after ``force``), and then it is killed for certain.
5. *Restarts never give up, and never hurry.* A dead child is replaced for ever, after full jitter that grows to 30 s. Only
   one that had been ready for 10 s and ended by itself (exit 75, recycle, or 0, somebody sent it SIGTERM) is replaced at once.
6. *Enough and not more.* There are ``target`` seats, and at most one child above that: the newcomer of a rolling restart.
   Signals and a scaling policy move the target, never below 1; surplus children drain one at a time, the idlest first.
7. *A roll loses nobody.* A child is told to stop only when its successor is ready; the first successor that is not ready
   in 60 s ends the roll, and its predecessor stays.
8. *Ending is rare.* By itself the supervisor ends, with 1, in two cases only. At the first start every child says that
   another start would end the same way (a file that does not import, a setting that is wrong): nobody was ever ready,
   so nothing is lost by saying so loudly. Or for 5 minutes no child was ready and none was waiting for a broker.
9. *Recycled one at a time.* A child that asks to be recycled is told to only while all others are at work, and the next
   only when its successor is ready, or has had 60 s. It is no crash: nothing is counted and there is no wait.
10. *One end.* ``End`` comes once, when no child is left.
11. *Pinned until it ends.* While an operator has pinned the target, no policy moves it; when the time is up or it is given
   back, it is what the policy last wanted, or what it was before.
12. *All pause.* Once paused, every loaded child is told so once, and a new one starts paused; resuming likewise.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pythia_core.backoff import full_jitter
from pythia_core.signals import StopSignals
from pythia_core.supervisor.events import (
    Action,
    Asked,
    Command,
    Died,
    Draining,
    End,
    Event,
    Fault,
    Kill,
    Level,
    Loaded,
    Pin,
    Report,
    Say,
    Scale,
    Spawn,
    Tell,
    Tick,
    Tired,
)
from pythia_core.supervisor.fleet import KILL_GRACE, Child, Seat, describe_status, free_slot, processes
from pythia_core.supervisor.hope import Hope
from pythia_core.supervisor.operator import Operator
from pythia_core.supervisor.roll import READY_SECONDS, Roll

__all__ = ["Machine"]

BACKOFF_BASE, BACKOFF_FACTOR, BACKOFF_CAP = 1.0, 2.0, 30.0  # seconds; a crash loop costs two starts a minute
STEADY = 10.0  # seconds ready, after which a death is not a failed start
SILENT_SECONDS = 10.0  # without a report; they come each second

CLEAN, RECYCLE = 0, 75


@attrs.define(eq=False)
class Machine:
    """Decides for a number of worker processes.

    Args:
        target: how many there should be.
        random: returns a float in ``[0, 1)``, for the backoff.
    """

    target: int
    random: Callable[[], float]
    children: dict[int, Child] = attrs.field(factory=dict, init=False)
    seats: list[Seat] = attrs.field(factory=list, init=False)
    roll: Roll | None = attrs.field(default=None, init=False)
    restarts: int = attrs.field(default=0, init=False)
    stopping: bool = attrs.field(default=False, init=False)
    operator: Operator = attrs.field(factory=Operator, init=False)
    exit_code: int = attrs.field(default=0, init=False)
    _signals: StopSignals = attrs.field(factory=StopSignals, init=False)
    _started: int = attrs.field(default=0, init=False)
    _hope: Hope = attrs.field(factory=Hope, init=False)
    _told: set[str] = attrs.field(factory=set, init=False)
    _ended: bool = attrs.field(default=False, init=False)
    now: float = attrs.field(default=0.0, init=False)
    _actions: list[Action] = attrs.field(factory=list, init=False)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event at a time (seconds, monotonic) and return what to do, in this order."""
        self.now, self._actions = now, []
        self._note(event)
        self._advance()
        return self._actions

    def wakeup(self, now: float) -> float | None:
        """Return when a tick is due at the latest, or None if there is nothing to wait for."""
        times = [seat.due for seat in self.seats if seat.child is None]
        times += [child.kill_at for child in self.children.values() if child.kill_at and not child.killed]
        times += [self.roll.deadline] if self.roll else []
        times += [self.operator.until] if self.operator.until else []
        return min((time for time in times if time > now), default=None)

    # What is known -------------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        if isinstance(event, Tick):
            self._notice_silence()
        elif isinstance(event, Asked):
            self._asked(event.wish)
        elif isinstance(event, Scale):
            self._scale(event)
        elif isinstance(event, Pin):
            self.operator.pin(self, event)
        elif (child := self.children.get(event.number)) is None:
            return  # it was its last word, heard after its death
        elif isinstance(event, Loaded):
            child.loaded, child.heard, child.drain_timeout = True, self.now, event.drain_timeout
        elif isinstance(event, Report):
            self._reported(child, event)
        elif isinstance(event, Tired):
            self._tires(child, event.reason)
        elif isinstance(event, Draining):
            self._drains(child, event.reason)
        elif isinstance(event, Fault):
            child.fault, child.hopeless = event.text, event.hopeless
            self._say_once("error", event.text)
        else:
            self._died(child, event)

    def _asked(self, wish: str) -> None:
        if wish == "stop":
            self._asked_to_stop()
        elif self.stopping:
            self.say("info", f"asked for {wish}, but a stop is under way")
        elif wish == "roll":
            self._begin_roll()
        elif wish in ("pause", "resume"):
            self.operator.pause(self, wish == "pause")
        elif wish == "more":
            self.target += 1
            self.say("info", f"one more: {processes(self.target)}")
        elif self.target == 1:
            self.say("warning", "one fewer would be none: the last process stays")
        else:
            self.target -= 1
            self.say("info", f"one fewer: {processes(self.target)}")

    def _scale(self, wanted: Scale) -> None:
        target = max(1, wanted.target)
        if self.stopping or self.operator.overrules(target) or target == self.target:
            return
        self.say("info", f"scaling from {self.target:,} to {processes(target)}: {wanted.why or 'asked to'}")
        self.target = target

    def _asked_to_stop(self) -> None:
        meaning = self._signals.heard(self.now)
        if meaning == "stop":
            self.say("info", f"stopping: {processes(len(self.children))} to finish what was begun")
            self._stop_all()
        elif meaning == "force":
            self.say("warning", "asked again: work under way is abandoned, to be delivered again")
            for child in self.children.values():
                self._tell(child, "force")
                child.hurry(self.now + KILL_GRACE)

    def _begin_roll(self) -> None:
        if self.roll is not None:
            self.say("info", "asked to restart, but a rolling restart is under way")
            return
        self.roll = Roll([seat.child.number for seat in self.seats if seat.child is not None])
        self.say("info", f"rolling restart of {processes(len(self.roll.remaining))}, one at a time")

    def _reported(self, child: Child, report: Report) -> None:
        was_ready = child.ready
        child.take(report, self.now)
        self._hope.note(child, self.now)
        if child.ready and not was_ready:
            self._told.clear()
            self.say("info", f"process {child.number} is ready")
        elif child.overdue(self.now):
            child.complained = True
            why = "; ".join(report.reasons) or "it does not say why"
            self.say("warning", f"process {child.number} is not ready: {why}")

    def _tires(self, child: Child, reason: str) -> None:
        if not child.tired:
            child.tired = reason or "it does not say why"
            self.say("info", f"process {child.number} asks to be recycled: {child.tired}")

    def _drains(self, child: Child, reason: str) -> None:
        if not child.leaving:
            self.say("info", f"process {child.number} drains by itself: {reason or 'it was sent SIGTERM'}")
        child.draining, child.ready = True, False
        child.hurry(self.now + child.patience())

    def _notice_silence(self) -> None:
        for child in self.children.values():
            silence = self.now - child.heard
            if child.loaded and not child.leaving and not child.silent and silence > SILENT_SECONDS:
                child.silent, child.ready, child.waiting_for = True, False, "itself"
                child.reasons = ("it does not report: its event loop is blocked, or the process is halted",)
                self.say("warning", f"process {child.number} has not reported for {silence:.0f} s")

    def _died(self, child: Child, event: Died) -> None:
        del self.children[child.number]
        how = describe_status(event.status)
        seat = self._seat_of(child)
        if child.told not in ("", "recycle"):  # by a stop, a scale-in or a roll
            self._left(child, event.status, how)
        elif seat is None:  # the newcomer of a roll, which takes note of it itself
            self.say("error", f"process {child.number}, which was to take over, ended {how}")
        elif seat.successor is not None:
            self.say("warning", f"process {child.number} ended {how} before it was replaced")
            seat.child, seat.successor = seat.successor, None
        else:
            self._vacate(seat, child, event.status, how)

    def _left(self, child: Child, status: int, how: str) -> None:
        clean = status in (CLEAN, RECYCLE)
        if self.stopping and not clean:
            self.exit_code = 1
        self.say("info" if clean else "warning", f"process {child.number} ended {how}")

    def _vacate(self, seat: Seat, child: Child, status: int, how: str) -> None:
        """Empty a seat and say when it is filled again."""
        steady = child.first_ready is not None and self.now - child.first_ready >= STEADY
        by_itself = steady and status in (CLEAN, RECYCLE)
        seat.failures = 0 if by_itself else 1 if steady else seat.failures + 1
        delay = full_jitter(seat.failures, BACKOFF_BASE, BACKOFF_FACTOR, BACKOFF_CAP, self.random)
        seat.due = self.now + (0.0 if by_itself else delay)
        seat.child, seat.recycled, seat.hopeless = None, by_itself and status == RECYCLE, child.hopeless
        if child.hopeless and not self._hope.anyone_was_ready:
            return  # it has said so itself, and may not be tried again
        level: Level = "info" if status in (CLEAN, RECYCLE) else "error"
        self.say(level, f"process {child.number} ended {how}; the next starts in {seat.due - self.now:.1f} s")

    # What follows --------------------------------------------------------------------------------

    def _advance(self) -> None:
        self.operator.advance(self)
        why = self._hope.lost(self.seats, self.children.values(), self.now)
        if why and not self.stopping:
            self._give_up(why)
        if not self.stopping:
            if self.roll is not None and not self.roll.advance(self):
                self.roll = None
            self._trim()
            self._fill()
            self._recycle()
        self._enforce()
        if self.stopping and not self.children and not self._ended:
            self._ended = True
            self._actions.append(End(self.exit_code))

    def _give_up(self, why: str) -> None:
        self.say("error", f"giving up: {why}")
        self.exit_code = 1
        self._stop_all()

    def _stop_all(self) -> None:
        self.stopping, self.roll = True, None
        self.seats.clear()
        for child in self.children.values():
            self.stop(child)

    def _fill(self) -> None:
        """Start what is missing and due."""
        while len(self.seats) < self.target:
            self.seats.append(Seat(due=self.now))
        for seat in self.seats:
            if seat.child is None and seat.due <= self.now and not (seat.recycled and self._recycling()):
                self.restarts += seat.used
                seat.child, seat.used = self.spawn(recycled=seat.recycled), True

    def _recycle(self) -> None:
        """Tell a child that asked for it to make room for another, if no other child is missing."""
        seats = [seat.child for seat in self.seats]
        if self.roll is not None or self._recycling() or None in seats:
            return
        if any(child.leaving for child in self.children.values()):
            return
        tired = next((child for child in seats if child is not None and child.tired), None)
        if tired is not None:
            self._part_with(tired, "recycle")

    def _recycling(self) -> bool:
        """Tell whether a recycled child's successor is still on its way to be ready: one at a time."""
        return any(
            child.recycled and child.first_ready is None and self.now - child.started < READY_SECONDS
            for child in self.children.values()
        )

    def _trim(self) -> None:
        """Take seats away, empty ones first, then the idlest child's, one child at a time; none during a roll."""
        while self.roll is None and len(self.seats) > self.target:
            seat = min(self.seats, key=_worth)
            if seat.child is not None:
                if any(child.leaving for child in self.children.values()):
                    return
                self.stop(seat.child)
            self.seats.remove(seat)

    def _enforce(self) -> None:
        for child in self.children.values():
            if child.kill_at is not None and not child.killed and self.now >= child.kill_at:
                child.killed = True
                self.say("error", f"process {child.number} has not ended in time: it is killed")
                self._actions.append(Kill(child.number))

    # What is done ---------------------------------------------------------------------------------

    def spawn(self, *, recycled: bool = False) -> Child:
        """Start a child."""
        self._started += 1
        slot = free_slot(self.children.values())
        child = Child(self._started, slot, self.now, recycled=recycled, paused=self.operator.paused)
        self.children[child.number] = child
        self._actions.append(Spawn(child.number, child.slot))
        return child

    def stop(self, child: Child) -> None:
        """Have a child drain and end."""
        if not child.told:
            self._part_with(child, "stop")

    def _part_with(self, child: Child, command: Command) -> None:
        self._tell(child, command)
        child.ready = False
        child.hurry(self.now + child.patience())

    def _tell(self, child: Child, command: Command) -> None:
        child.told = command
        self._actions.append(Tell(child.number, command))

    def _seat_of(self, child: Child) -> Seat | None:
        return next((seat for seat in self.seats if seat.child is child), None)

    def order(self, child: Child, command: Command) -> None:
        """Send a child a command after which it goes on."""
        self._actions.append(Tell(child.number, command))

    def say(self, level: Level, text: str) -> None:
        """Log a line."""
        self._actions.append(Say(level, text))

    def _say_once(self, level: Level, text: str) -> None:
        """Say it, unless a sibling has said the same since anybody was last ready."""
        if text not in self._told:
            self._told.add(text)
            self.say(level, text)


def _worth(seat: Seat) -> tuple[bool, float, int]:
    """Rank a seat for scale-in, least first: an empty one, then the idlest child's, then the highest slot's."""
    return (False, 0.0, 0) if seat.child is None else (True, seat.child.busy, -seat.child.slot)
