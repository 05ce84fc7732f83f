"""A rate limit: no more calls of the handler a second than somebody else can bear, by this process or by all together.

Every call counts, also that of a retry. What would have to wait is mostly not even fetched, so that other workers can
take it; what has been fetched waits for its turn in the order it came.

Invariants:

- In any interval of ``t`` seconds at most ``burst + rate * t`` calls begin (here, or everywhere with a shared bucket).
- Calls wait in the order in which they came.
- A shared bucket that cannot be reached lets nothing through: nobody knows what the others take.
"""

from __future__ import annotations

import math
from typing import Any

import anyio
import attrs

from pythia_core.clock import Clock, loop_clock
from pythia_core.contracts import Admission, Handler, Middleware, Phase, Resource, TokenBucket
from pythia_core.errors import ConfigError
from pythia_core.middleware.reach import Reach

__all__ = ["RateLimit"]

WORTHWHILE = 10  # the share of a burst, 1 in so many, that must be free before it is worth a fetch
LEASE = 0.05  # seconds' worth of tokens that are taken from a shared bucket at once
LEASE_ENDS = 1.0  # seconds after which what was taken and not used is void


@attrs.define(eq=False, slots=False)  # so that it can be copied before it is opened
class RateLimit(Middleware, Resource):
    """Let at most ``rate`` calls of the handler begin in a second.

    A call that waits is at work as far as ``handler_timeout`` is concerned, so a worker with a very low rate wants a
    ``burst`` of 1 and few concurrent tasks. A batch counts as one call for each of its messages.

    Args:
        rate: calls a second, above 0; 0.1 is one in ten seconds.
        burst: calls that may begin at once after a pause; what ``rate`` allows in a second unless given, 1 at least.
        bucket: where the tokens are, to share one limit among processes; this process's own if left out.

    Raises:
        ConfigError: if a value is out of bounds.

    Example:
        ::

            config = WorkerConfig(middleware=[RateLimit(rate=100)])
    """

    rate: float
    burst: int = 0
    bucket: TokenBucket | None = None
    _due: float = attrs.field(default=-math.inf, init=False)  # when the bucket would be full again
    _leased: int = attrs.field(default=0, init=False)
    _lease_ends: float = attrs.field(default=-math.inf, init=False)
    _dry_until: float = attrs.field(default=-math.inf, init=False)
    _clock: Clock = attrs.field(init=False)
    _lock: anyio.Lock = attrs.field(init=False)
    _reach: Reach = attrs.field(init=False)

    phase = Phase.LIMIT

    def __attrs_post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"rate is {self.rate}; it must be above 0 calls a second")
        if self.burst < 0:
            raise ConfigError(f"burst is {self.burst}; it must be at least 1, or 0 for a second's worth")
        self.burst = self.burst or max(1, int(self.rate))

    @property
    def broker_connections(self) -> int:
        """Those of the bucket."""
        return 0 if self.bucket is None else self.bucket.broker_connections

    async def open(self) -> None:
        """Begin with a full bucket of our own, or connect to the shared one."""
        self._clock, self._lock = loop_clock(), anyio.Lock()
        self._due = self._lease_ends = self._dry_until = -math.inf
        self._leased, self._reach = 0, Reach("the shared rate limit")
        if self.bucket is not None:
            self.bucket = self.bucket.fresh()
            await self.bucket.open()

    async def aclose(self) -> None:
        """Let go of the shared bucket."""
        if self.bucket is not None:
            await self.bucket.aclose()

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that waits for its token."""
        take = self._take_own if self.bucket is None else self._take_shared

        async def limited(message: Any) -> Any:
            for _ in range(len(message) if isinstance(message, list) else 1):
                await take()
            return await handler(message)

        return limited

    def admit(self, count: int) -> Admission:
        """Let in what could begin now, and nothing for less than a tenth of a burst."""
        now = self._clock()
        if self.bucket is not None:
            wait = 1.0 if self._reach.down else self._dry_until - now
            return Admission(0, wait) if wait > 0 else Admission(count)
        free = self.burst - math.ceil(max(self._due - now, 0.0) * self.rate - 1e-6)
        enough = max(self.burst // WORTHWHILE, 1)
        if free < min(enough, count):
            return Admission(0, (enough - free) / self.rate)
        return Admission(min(count, free))

    async def _take_own(self) -> None:
        """Take the next token; it is ours at once, and this waits until it is there."""
        now = self._clock()
        wait = self._due - now - (self.burst - 1) / self.rate
        self._due = max(self._due, now) + 1 / self.rate
        if wait > 0:
            await anyio.sleep(wait)

    async def _take_shared(self) -> None:
        async with self._lock:
            if self._clock() >= self._lease_ends:
                self._leased = 0
            while self._leased == 0:
                await self._lease()
            self._leased -= 1

    async def _lease(self) -> None:
        bucket = self.bucket
        assert bucket is not None
        most = min(math.ceil(self.rate * LEASE), self.burst)
        count, wait = await self._reach.insist(lambda: bucket.take(self.rate, self.burst, most))
        now = self._clock()
        self._leased, self._lease_ends = count, now + LEASE_ENDS
        if count == 0:
            self._dry_until = now + wait
            await anyio.sleep(max(wait, 0.001))
