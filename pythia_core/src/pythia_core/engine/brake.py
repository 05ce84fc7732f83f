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

Successes cost nothing: how many there were is read off the counters whenever a first attempt fails. A message that
succeeds after a failure counts as one more of them, so the share is never taken for higher than it is.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Collection
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
LET_IN = (
    2  # at once: asked for one, a source that counts deliveries prefers a suspect, which is no good probe
)


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
    ) -> None:
        self._group = group
        self._policy = policy
        self._scheduler = scheduler
        self._pool = pool
        self._stops = stops
        self._stats = stats
        self._published = published
        self._clock = clock
        self._first_failures = 0
        self._ended_otherwise = 0  # skipped messages, and all that are or will be dead letters
        self._ended: deque[int] = deque(maxlen=int(policy.window * policy.share) + 1)  # see K1
        self._reason: str | None = None
        self._failures = 0  # of probes in a row
        self._successes = 0  # the same
        self._delay = 0.0  # seconds until the next probe, and of whatever failed meanwhile
        self._hungry = False  # a message may be let in to probe with
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
        self._failures, self._successes = 1, 0
        self._back_off()
        self._stops.add(self._reason, self._wanted)
        self._pool().pause()
        self._group.start_soon(self.run, name="pythia brake")

    def release(self) -> None:
        """Let all go on as ever."""
        assert self._reason is not None
        log.warning("the brake is released: %d probes in a row succeeded", self._successes)
        reason, self._reason = self._reason, None
        self._pool().resume()
        self._stops.discard(reason)

    async def run(self) -> None:
        """Probe until the brake is released."""
        while self.engaged:
            await anyio.sleep(self._delay)
            await self._run(await self._next())

    async def _next(self) -> Message[Any]:
        """Wait for a message to probe with, and let some in if there is none that has never failed."""
        patience = self._clock() + min(NEWS, self._policy.cap)
        self._hungry = True
        while (message := self._choose(anew=self._clock() < patience)) is None:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(LOOK)
        self._hungry = False
        return message

    def _choose(self, *, anew: bool) -> Message[Any] | None:
        """Return the first ready message that has never failed; without ``anew``, or else one that has."""
        ready = self._scheduler.ready
        never_failed = (message for message in ready if getattr(message, "_failure", None) is None)
        return next(never_failed, None if anew else next(iter(ready), None))

    def _wanted(self) -> int:
        """Return how many messages may come in."""
        return LET_IN if self._hungry and self._choose(anew=True) is None else 0

    async def _run(self, message: Message[Any]) -> None:
        """Run a ready message alone and learn from it."""
        self._probe, self._succeeds = message, True
        ran = await self._pool().run_alone(message)
        self._probe = None
        if ran and self._succeeds and not message._ledger.closed:
            self._failures = 0
            self._successes += 1
            if self._successes >= self._policy.probes:
                self.release()
        self._back_off()

    def _back_off(self) -> None:
        policy = self._policy
        self._delay = (
            full_jitter(self._failures, policy.base, policy.factor, policy.cap, random.random)
            if self._failures
            else 0.0
        )
