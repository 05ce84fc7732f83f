"""The brake: while most messages fail, none is blamed for it. An outage elsewhere costs no message its attempts.

Invariants:

- K1. It engages when more than ``share`` of the last ``window`` first attempts have failed, and never when fewer have.
- K2. While it is engaged, intake is stopped by name, no worker takes a message, and one message at a time probes: with
  backoff after one that failed, at once after one that did not.
- K3. A failure that ends while it is engaged counts no attempt and makes no dead letter. What would fail for ever (Reject,
  a body that cannot be decoded or is too large) does not count, here or in the window, and is dead-lettered as ever.
- K4. ``probes`` successes in a row release it; what it knew is forgotten.
- K5. It never waits for nothing, nor probes with the same messages for ever: one that has never failed comes first. If
  none is ready some are let in, and only if none comes within :data:`NEWS` it is the turn of one that has failed before.
  Else as many messages as engage it, which fail for ever and count no attempt, would hold up all that could release it.
  If they use up the bounds on messages and spans, these are raised by ``probes`` each time that nothing new came: so many
  in a row release it, and behind a position even those that succeed use up the span. The bound on bytes stands, as does
  what the broker lets out.
- K6. A suspect (:mod:`~pythia_core.engine.suspects`, :mod:`~pythia_core.engine.line`) is run only if no other message
  comes that has never failed, by turns with those that have, and alone as ever. For all else has to be given back or to
  wait while one runs: two that fail, which counts for nothing, would else keep all others from ever probing.

Successes cost nothing: how many there were is read off the counters whenever a first attempt fails. A message that
succeeds after a failure counts as one more of them, so the share is never taken for higher than it is.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import anyio
from anyio.abc import TaskGroup

from pythia_core.backoff import full_jitter
from pythia_core.clock import Clock
from pythia_core.contracts.message import Message
from pythia_core.engine.pool import Pool
from pythia_core.engine.scheduler import Scheduler
from pythia_core.engine.stats import Stats
from pythia_core.engine.stops import Stops
from pythia_core.settings import BrakePolicy

log = logging.getLogger("pythia.brake")

LOOK = 0.05  # seconds between looks for a message to probe with
NEWS = 1.0  # seconds that a message which is let in has to come, or the cap of the backoff if that is less
LET_IN = 2  # at once; asked for one, a source that counts deliveries prefers a suspect, and counts it


class Brake:
    """Watches failures, and stops all work but probes while there are too many.

    Args:
        group: where its probes run.
        policy: when it engages, and how it probes.
        scheduler: what is ready to probe with.
        pool: what it pauses.
        stops: by which it stops intake.
        stats: counters shared with the rest of the engine.
        published: messages whose handler has returned and whose outputs are on their way.
        clock: monotonic seconds.
        barred: tells whether a message is no probe now.
        run_suspect: runs one suspect; returns False if there is none.
        released: called when all goes on as ever, before anything does.
    """

    def __init__(
        self,
        group: TaskGroup,
        policy: BrakePolicy,
        scheduler: Scheduler,
        pool: Callable[[], Pool],
        stops: Stops,
        stats: Stats,
        *,
        published: Collection[object],
        clock: Clock,
        barred: Callable[[Message[Any]], bool],
        run_suspect: Callable[[], Awaitable[bool]],
        released: Callable[[], object],
    ) -> None:
        self._group = group
        self._policy = policy
        self._scheduler = scheduler
        self._pool = pool
        self._stops = stops
        self._stats = stats
        self._published = published
        self._clock = clock
        self._barred = barred
        self._run_suspect = run_suspect
        self._released = released
        self._first_failures = 0
        self._ended_otherwise = 0  # skipped messages, and all that are or will be dead letters
        self._ended: deque[int] = deque(maxlen=int(policy.window * policy.share) + 1)  # see K1
        self._reason: str | None = None
        self._failures = 0  # of probes in a row
        self._successes = 0  # the same
        self._delay = 0.0  # seconds until the next probe, and of whatever failed meanwhile
        self._suspects_turn = False  # it was not theirs the last time
        self._hungry = False  # a message may be let in to probe with
        self._beyond = 0  # by how much the bounds on what is in flight are raised
        self._probe: Message[Any] | None = None
        self._succeeds = False  # whether the probe has, as far as is known

    @property
    def engaged(self) -> bool:
        """True while failures are not the messages' own."""
        return self._reason is not None

    @property
    def delay(self) -> float:
        """Seconds after which a message that failed while the brake is engaged is worth another attempt."""
        return self._delay

    # -- what became of attempts ---------------------------------------------------------------------------------

    def failed(self, message: Message[Any]) -> bool:
        """Take note of a failed attempt; return True if it is not to count as one."""
        if message is self._probe:
            self._succeeds = False
            self._failures += 1
            self._successes = 0
        elif not self.engaged and message.attempt == 1:
            self._first_failed()
        return self.engaged

    def ended_otherwise(self, message: Message[Any]) -> None:
        """Take note of a message that has neither succeeded nor failed: it was skipped, or will be a dead letter."""
        self._ended_otherwise += 1
        if message is self._probe:
            self._succeeds = False

    def _first_failed(self) -> None:
        self._first_failures += 1
        ended = self._first_failures + self._succeeded()
        self._ended.append(ended)
        if len(self._ended) == self._ended.maxlen and ended - self._ended[0] < self._policy.window:
            self._engage(len(self._ended), ended - self._ended[0] + 1)

    def _succeeded(self) -> int:
        stats = self._stats
        return stats.finished - stats.released - self._ended_otherwise + len(self._published)

    # -- engaged -------------------------------------------------------------------------------------------------

    def _engage(self, failures: int, of: int) -> None:
        self._reason = f"brake: {failures} of the last {of} first attempts failed"
        log.error("%s; intake stops, one message at a time probes", self._reason)
        self._ended.clear()
        self._failures, self._successes, self._beyond = 1, 0, 0
        self._back_off()
        self._stops.add(self._reason, self._wanted, lambda: self._beyond)
        self._pool().pause()
        self._group.start_soon(self.run, name="pythia brake")

    def release(self) -> None:
        """Let all go on as ever."""
        assert self._reason is not None
        log.warning("the brake is released: %d probes in a row succeeded", self._successes)
        reason, self._reason = self._reason, None
        self._released()
        self._pool().resume()
        self._stops.discard(reason)

    async def run(self) -> None:
        """Probe until the brake is released."""
        while self.engaged:
            await anyio.sleep(self._delay)
            if (message := await self._new()) is not None:
                await self.run_alone(message)
            else:
                await self._run_old()

    async def _new(self) -> Message[Any] | None:
        """Return a message that has never failed; if there is none, let some in, and return None if none comes."""
        until = self._clock() + min(NEWS, self._policy.cap)
        self._hungry = True
        self._stops.nudge()
        while (message := self._ready(failed=False)) is None and self._clock() < until:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(LOOK)
        if message is None:
            self._beyond += self._policy.probes
        return message

    async def _run_old(self) -> None:
        """Probe with a suspect, or with a message that has failed before."""
        self._suspects_turn = not self._suspects_turn
        if self._suspects_turn and await self._run_suspect():
            return
        if (message := self._ready(failed=True)) is not None:
            await self.run_alone(message)
        elif not self._suspects_turn:
            await self._run_suspect()

    def _ready(self, *, failed: bool) -> Message[Any] | None:
        """Return the first ready message, no suspect, that has failed before, or that has not."""
        for message in self._scheduler.ready:
            if hasattr(message, "_failure") == failed and not self._barred(message):
                return message
        return None

    def _wanted(self) -> int:
        """Return how many messages may come in."""
        return LET_IN if self._hungry and self._ready(failed=False) is None else 0

    async def run_alone(self, message: Message[Any]) -> bool:
        """Run a ready message alone, as :meth:`Pool.run_alone` does, and while the brake is engaged learn from it."""
        if not self.engaged:
            return await self._pool().run_alone(message)
        self._hungry = False
        self._probe, self._succeeds = message, True
        ran = await self._pool().run_alone(message)
        self._probe = None
        if ran and self._succeeds and not message._ledger.closed:
            self._failures = 0
            self._successes += 1
            if self._successes >= self._policy.probes:
                self.release()
        self._back_off()
        return ran

    def _back_off(self) -> None:
        policy = self._policy
        self._delay = (
            full_jitter(self._failures, policy.base, policy.factor, policy.cap, random.random)
            if self._failures
            else 0.0
        )
