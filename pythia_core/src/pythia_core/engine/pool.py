"""The workers: N long-lived tasks, each running one message after the other. This is the hot path.

Between taking a message and storing its outcome a message costs one ``await handler(message)``, one byte store, one
counter, and with ordering one dict probe. No task, lock, future, timer, cancel scope or log record is
made for it; ``tests/engine/test_hot_path.py`` counts them.

Heartbeats live on this loop too, so after 5 ms of uninterrupted work the workers yield to it. The 5 ms are shared by
all workers: 20 of them with 5 ms each would hold the loop for 100 ms in one turn. While messages take less than 0.1 ms
each, the clock is read for every eighth only, which saves a tenth of the engine's time; else for every one.

Where handlers wait the loop turns by itself, and to yield to it as well would cost a third of the time. So whoever finds
that half of the 5 ms are over wakes a task and goes on for the other half: if that task comes to run the loop has turned,
and the time begins anew; only if it does not are the 5 ms uninterrupted.

When a message was started is seen by :meth:`Pool.observe`, which the engine calls a few times a second, so that no
message pays for a time that nearly none of them needs. Where telemetry wants every duration (``timed``) the clock is read
once for each message: its start is the end of the one before it. So a duration holds the 0.2 microseconds that the pool
itself takes for a message; a stopwatch around the handler would cost a coroutine and two reads more.

A pause costs no message anything either: it ends the turn for good, and a worker whose turn has ended waits until the
pause is over. That it looks after its present message, and not after a stride of them, is brought about by what makes
it tell of progress: a pause waits for every single completion, as a drain does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import attrs
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from pythia_core.clock import Clock
from pythia_core.contracts.message import Message
from pythia_core.contracts.middleware import Handler
from pythia_core.engine.ledger import DONE
from pythia_core.engine.places import Places
from pythia_core.engine.scheduler import STREAK, Scheduler
from pythia_core.engine.stats import QUICKEST, Stats

HALF_TURN = 0.0025  # seconds of work after which it is looked whether the event loop turns; after twice that it has to
STRIDE = 8  # messages between two looks at the clock, while they are quick
QUICK = STRIDE * 0.0001  # seconds that a stride of quick messages takes at the most
PAUSED = -math.inf  # when the turn ends during a pause
LOOK = 0.01  # seconds between looks at whether the workers have stopped, which they say nobody


@attrs.define(eq=False)
class Slot:
    """One worker task: what it runs and since when. Health and the handler timeout are read off it."""

    scope: anyio.CancelScope
    message: Message[Any] | None = None
    batch: Sequence[Message[Any]] = ()  # all that it runs, where it runs batches
    seen: Message[Any] | None = None  # what it ran when it was last observed
    since: float = 0.0  # when it was first observed running that
    active: bool = True  # False once its handler is cancelled: it takes no further message
    reason: BaseException | None = None  # why its handler was cancelled
    cancelled: float | None = None  # and when
    alone: bool = False  # True if it is no worker, but runs one message while the workers are paused

    @property
    def messages(self) -> Sequence[Message[Any]]:
        """What it runs now."""
        return self.batch or (() if self.message is None else (self.message,))


class Pool:
    """Runs messages from a scheduler.

    Args:
        size: how many worker tasks.
        scheduler: where messages come from and where they are completed.
        handler: called with each message.
        stats: counters shared with the rest of the engine.
        clock: monotonic seconds.
        failed: called with a message and what its handler raised.
        returned: called with a message and what its handler returned, if that is not None.
        idle: called when a worker found nothing to do.
        timed: True to count how long every handler call took.
    """

    def __init__(
        self,
        size: int,
        scheduler: Scheduler,
        handler: Handler,
        stats: Stats,
        clock: Clock,
        *,
        failed: Callable[[Message[Any], BaseException], None],
        returned: Callable[[Message[Any], Any], None],
        idle: Callable[[], None],
        timed: bool = False,
    ) -> None:
        self.size = size
        self.slots: set[Slot] = set()
        self._scheduler = scheduler
        self._handler = handler
        self._stats = stats
        self._clock = clock
        self._failed = failed
        self._returned = returned
        self._on_idle = idle
        self._timed = timed
        self._turn_ends = 0.0
        self._turning = anyio.Event()  # set while it is looked whether the loop turns
        self._sleepers: deque[anyio.Event] = deque()
        self._pauses = 0
        self._resumed = anyio.Event()
        self.places = Places(self._takers, crowded=self._look_up, fit=self._begin_turn)
        self._group: TaskGroup | None = None

    @property
    def running(self) -> list[Slot]:
        """The workers that have a message."""
        return [slot for slot in self.slots if slot.message is not None]

    @property
    def at_work(self) -> list[Slot]:
        """The workers that have a message, but for those that were cancelled: such a handler may never end."""
        return [slot for slot in self.running if slot.active]

    @property
    def all_idle(self) -> bool:
        """True if no worker has a message and none is ready."""
        return len(self._sleepers) + self.places.benched >= len(self.slots) and not self._scheduler.ready

    def observe(self) -> list[Slot]:
        """Note the time for messages not seen before; return the workers that have a message."""
        now = self._clock()
        running = self.running
        for slot in running:
            if slot.seen is not slot.message:
                slot.seen, slot.since = slot.message, now
        return running

    def start(self, group: TaskGroup) -> None:
        """Start the workers in ``group``."""
        self._group = group
        group.start_soon(self._watch_turns, name="pythia turns")
        for _ in range(self.size):
            self._hire()

    def _hire(self) -> None:
        assert self._group is not None
        slot = Slot(anyio.CancelScope())
        self.slots.add(slot)
        self._group.start_soon(self._work, slot, name="pythia worker")

    def wake(self) -> None:
        """Wake one sleeping worker; it wakes the next if there is more than it can take."""
        if self._sleepers:
            self._sleepers.popleft().set()

    def replace(self, slot: Slot, reason: BaseException) -> None:
        """Cancel a worker's handler and put a new worker in its place; the old one ends when its handler has."""
        if slot.active:
            slot.active = False
            slot.reason = reason
            slot.cancelled = self._clock()
            slot.scope.cancel()
            if not slot.alone:
                self._hire()

    # -- pauses --------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let no worker take a message until :meth:`resume` has been called as often as this."""
        self._pauses += 1
        self._look_up()

    def resume(self) -> None:
        """Let the workers go on, unless they are paused for something else as well."""
        self._pauses -= 1
        if not self._pauses:
            self._begin_turn()
            self._resumed.set()
            self._resumed = anyio.Event()

    @property
    def paused(self) -> bool:
        """True during a pause."""
        return self._pauses > 0

    @property
    def halting(self) -> bool:
        """True while workers are to look up after each message: during a pause, and while too many of them take messages."""
        return self._pauses > 0 or self.places.crowded

    def _look_up(self) -> None:
        """Have every worker look up after its present message."""
        self._turn_ends = PAUSED
        self._scheduler.wake_at = 0

    def _begin_turn(self) -> None:
        if not self.halting:
            self._turn_ends = 0.0

    def _takers(self) -> int:
        """Return how many workers take messages, or would if there were places for them."""
        return sum(slot.active and not slot.alone for slot in self.slots)

    async def run_alone(self, message: Message[Any]) -> bool:
        """Run a ready message while nothing else runs; to be called during a pause.

        Returns:
            False if it was not ready any more when everything else had ended, as after a revoke.
        """
        while self.at_work:  # noqa: ASYNC110 - see LOOK
            await anyio.sleep(LOOK)
        if message not in self._scheduler.ready:
            return False
        self._scheduler.ready.remove(message)
        slot = Slot(anyio.CancelScope(), message, alone=True)
        self.slots.add(slot)
        try:
            with slot.scope:
                await self._run_one(slot, message)
        finally:
            self.slots.discard(slot)
        return True

    async def _run_one(self, slot: Slot, message: Message[Any]) -> None:
        """Do with one message what the loop does with each."""
        began = self._clock()
        try:
            result = await self._handler(message)
        except BaseException as error:
            self._handle(slot, message, error)
            return
        finally:
            if self._timed:
                self._stats.count_duration(self._clock() - began)
        slot.message = None
        if result is not None:
            self._returned(message, result)
        else:
            self._scheduler.complete(message)

    async def _while_paused(self) -> None:
        while self._pauses:
            await self._resumed.wait()

    # -- workers -------------------------------------------------------------------------------------------------

    async def _work(self, slot: Slot) -> None:
        try:
            with slot.scope:
                await self._loop(slot)
        finally:
            self.slots.discard(slot)

    async def _loop(self, slot: Slot) -> None:
        """Run messages. Whoever looks at ``slot.message`` does so while this task waits, so it is right then."""
        scheduler, stats, clock, handler = self._scheduler, self._stats, self._clock, self._handler
        ready, ordered = scheduler.ready, scheduler.ordered
        take, putback = ready.popleft, ready.appendleft
        timed, durations = self._timed, stats.durations
        streak = unchecked = 0
        checked = 0.0
        took = False  # whether a message was taken at ``checked``
        while slot.active:
            if unchecked:
                unchecked -= 1
            else:
                now = clock()
                if timed:
                    if took:
                        taken = now - checked
                        if taken <= QUICKEST:  # in line for nearly all: a call would cost as much again
                            durations[0] += 1
                            stats.duration_sum += taken
                        else:
                            stats.count_duration(taken)
                    took = True
                while now >= self._turn_ends:  # also after a yield: others may have used up the new turn
                    if self._goes_on(now):
                        break
                    slot.message = None
                    await self._yield()
                    now = clock()
                unchecked = 0 if timed or now - checked >= QUICK else STRIDE - 1
                checked = now
            try:
                message = slot.message = take()
            except IndexError:
                slot.message = None
                await self._sleep()
                unchecked = 0
                took = False
                continue
            try:
                result = await handler(message)
            except BaseException as error:
                self._handle(slot, message, error)
                unchecked = 0
                continue
            if result is not None:
                slot.message = slot.seen = None
                self._returned(message, result)
                if self._turn_ends == PAUSED:
                    unchecked = 0
                continue
            ledger = message._ledger
            if ledger.closed:
                slot.message = None
                scheduler.orphan_ended(message)
                continue
            ledger.state[message._sequence - ledger.base] = DONE
            if ordered and (lane := message._lane) is not None:
                if ledger.lanes[lane] is message:
                    del ledger.lanes[lane]
                    streak = 0
                else:
                    following, message._next = message._next, None
                    assert following is not None
                    if streak < STREAK:
                        streak += 1
                        putback(following)
                    else:
                        streak = 0
                        ready.append(following)
            finished = stats.finished = stats.finished + 1
            if finished >= scheduler.wake_at:
                unchecked = 0
                slot.message = None
                scheduler.progress()
        if took:
            stats.count_duration(clock() - checked)

    def _handle(self, slot: Slot, message: Message[Any], error: BaseException) -> None:
        """Pass a failure on."""
        slot.message = slot.seen = None  # run again, it begins anew
        self._failed(message, self._meaning(slot, error))

    def _meaning(self, slot: Slot, error: BaseException) -> BaseException:
        """Return what a handler failed for, unless what was raised is the cancellation of the engine itself.

        A handler may raise anything: CancelledError, KeyboardInterrupt, SystemExit. It is the message's failure as long
        as no scope around us but the worker's own is cancelled, which shows in the effective deadline.
        """
        if isinstance(error, anyio.get_cancelled_exc_class()):
            if slot.reason is not None:
                return slot.reason
            if anyio.current_effective_deadline() == -math.inf:
                raise error
        return error

    def _goes_on(self, now: float) -> bool:
        """Begin the second half of the turn, unless it was that which is over; a pause grants none."""
        if self.halting or self._turning.is_set():
            return False
        self._turning.set()
        self._turn_ends = now + HALF_TURN
        return True

    async def _watch_turns(self) -> None:
        """Begin a new turn each time the loop has turned since somebody asked."""
        while True:
            await self._turning.wait()
            self._turning = anyio.Event()
            if not self.halting:
                self._turn_ends = self._clock() + HALF_TURN

    async def _yield(self) -> None:
        """Let the loop turn, and begin a new turn of work unless another worker has done so meanwhile."""
        while self.halting:
            await self._while_paused()
            await self.places.wait(self._make_room)
        seen = self._turn_ends
        await checkpoint()
        if self._turn_ends == seen:
            self._turn_ends = self._clock() + HALF_TURN

    def _make_room(self) -> None:
        """Leave to the others what a worker was woken for that goes to the bench."""
        if self._scheduler.ready:
            self.wake()
        self._on_idle()

    async def _sleep(self) -> None:
        woken = anyio.Event()
        self._sleepers.append(woken)
        self._on_idle()
        try:
            await woken.wait()
        finally:
            if not woken.is_set():
                self._sleepers.remove(woken)
        if len(self._scheduler.ready) > 1:  # else it takes the only one itself
            self.wake()
