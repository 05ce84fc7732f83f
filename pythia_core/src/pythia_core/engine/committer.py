"""The committer tells the broker what became of messages: in batches, one call at a time, and again if in doubt.

Invariants:

- C1. Calls are serial: the next begins when the last has ended, however long its caller has given up waiting.
- C2. What a call was not heard of, or raised for, is settled again (L5).
- C3. A pass that began after a moment covers everything finished at that moment: :meth:`Committer.flush` waits for one.
- C4. What is refused is struck out of its ledger before anything else is settled.
- C5. A committed position covers any number of messages, so where that is how a source acknowledges, idle moments lead to
  no more than one call in :data:`PACE`, and none while the source knows that more is coming; the clock's calls remain.
- C6. An answer changes nothing in a ledger that was closed while it was on its way: all of that is counted as gone already.
"""

from __future__ import annotations

import logging
import math
import random
import sys
from collections.abc import Callable, Sequence

import anyio

from pythia_core.backoff import full_jitter
from pythia_core.clock import Clock
from pythia_core.contracts.settlement import Refused, Settlement
from pythia_core.contracts.source import Capabilities
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.stats import Stats

log = logging.getLogger("pythia.committer")

THRESHOLD = 5000  # finished messages after which a settlement does not wait for the clock
POSITION_THRESHOLD = 50_000  # the same where a position is committed, which is one however many it covers
POSITION_SHARE = 100  # the same for each partition that has one to commit: that costs 5 us, 0.05 us a message
PACE = 0.1  # seconds between the commits of positions that idle moments lead to
IDLE_GRACE = 0.005  # seconds; at a low rate it makes one call of what would be one call per message
Settle = Callable[[Sequence[Settlement]], "object"]


class Committer:
    """Settles the ledgers of one subscription.

    Args:
        settle: the subscription's method.
        capabilities: of the source; its window and lease decide how often.
        interval: seconds between settlements.
        stats: counters shared with the rest of the engine.
        clock: monotonic seconds.
        refused: called with each refusal and the ledger it is about.
    """

    def __init__(
        self,
        settle: Callable[[Sequence[Settlement]], object],
        capabilities: Capabilities,
        *,
        interval: float,
        stats: Stats,
        clock: Clock,
        refused: Callable[[Ledger, Refused], None],
    ) -> None:
        self._settle = settle
        self._interval = interval
        self._stats = stats
        self._clock = clock
        self._refused = refused
        self._renew_every = capabilities.lease_seconds / 3 if capabilities.lease_seconds else float("inf")
        self._renew_at = clock() + self._renew_every
        self._due = min(clock() + interval, self._renew_at)
        self._idle_due: float | None = None  # when an idle moment has lasted long enough
        self._earlier = anyio.Event()
        self._passed = anyio.Event()
        self._begun = 0
        self._succeeded = 0
        self._failures = 0
        positions, window = capabilities.ack == "cumulative", capabilities.window
        self._pace = PACE if positions else 0.0
        self._paced = -math.inf  # until when idle moments lead to no call
        self._share = POSITION_SHARE if positions else 0
        self._least = POSITION_THRESHOLD if positions else THRESHOLD
        self._most = max(window // 2, 1) if window else sys.maxsize
        self.dirty: set[Ledger] = set()  # ledgers with something open or unsettled

    @property
    def threshold(self) -> int:
        """After how many more finished messages a settlement does not wait for the clock."""
        return min(max(self._least, self._share * len(self.dirty)), self._most)

    def soon(self, delay: float = 0.0) -> None:
        """Settle within ``delay`` seconds."""
        due = self._clock() + delay
        if due < self._due:
            self._due = due
            self._earlier.set()

    def idle(self) -> None:
        """Settle shortly, unless something comes up by then."""
        if self.dirty and self._idle_due is None:
            self._idle_due = max(self._clock() + IDLE_GRACE, self._paced)
            self._earlier.set()

    def busy(self) -> None:
        """Go back to settling by the clock and by number."""
        self._idle_due = None

    async def run(self) -> None:
        """Settle whenever it is due, until cancelled."""
        while True:
            while (rest := self._rest()) > 0:
                self._earlier = anyio.Event()
                with anyio.move_on_after(rest):
                    await self._earlier.wait()
            await self._pass()

    def _rest(self) -> float:
        due = self._due if self._idle_due is None else min(self._due, self._idle_due)
        return due - self._clock()

    async def flush(self, deadline: float) -> bool:
        """Wait until everything finished by now is settled; return False if that did not come by ``deadline``."""
        wanted = self._begun + 1
        while self._succeeded < wanted:
            if self._clock() >= deadline:
                return False
            if self._begun < wanted:
                self.soon()
            if self._passed.is_set():  # else another flush waits for it too
                self._passed = anyio.Event()
            with anyio.move_on_after(deadline - self._clock()):
                await self._passed.wait()
        return True

    async def _pass(self) -> None:
        self._begun = number = self._begun + 1
        self._idle_due = None
        now = self._clock()
        self._paced = now + self._pace
        renew = now >= self._renew_at
        renew_at = now + self._renew_every if renew else self._renew_at
        self._due = min(now + self._interval, renew_at)
        made = [(ledger, made) for ledger in self.dirty if (made := ledger.settlement(renew=renew))]
        if not made or await self._call(made):
            self._succeeded = number
            self._failures = 0
            self._renew_at = renew_at
        self.dirty = {ledger for ledger in self.dirty if not ledger.closed and not ledger.clean}
        self._passed.set()

    async def _call(self, made: Sequence[tuple[Ledger, Settlement]]) -> bool:
        began = self._clock()
        try:
            refusals = await self._settle([settlement for _, settlement in made])  # type: ignore[misc]
        except Exception as error:
            self._failures += 1
            delay = full_jitter(self._failures, 0.1, 2.0, 5.0, random.random)
            log.warning("settling failed, again in %.1f s: %s: %s", delay, type(error).__name__, error)
            self._due = self._clock() + delay
            return False
        self._stats.operations["settle"].count(self._clock() - began)
        self._stats.settlements += 1
        for ledger, settlement in made:
            if not ledger.closed:
                self._stats.settled += ledger.settled(settlement)
        for refusal in refusals:
            self._refuse(refusal, [ledger for ledger, _ in made])
        return True

    def _refuse(self, refusal: Refused, ledgers: Sequence[Ledger]) -> None:
        for ledger in ledgers:
            named = ledger.partition == refusal.partition and ledger.assignment.id == refusal.assignment
            if named and not ledger.closed:
                self._refused(ledger, refusal)
