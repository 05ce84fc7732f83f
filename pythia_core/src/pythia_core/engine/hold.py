"""The hold: how long one message may hold up a committed position, and what is done about it.

It stands apart because it is the only part that looks at positions by the clock. Everything behind a message that is open
stays unsettled where a position is committed, and at ``limits.span`` its partition stands still. So a message that only
fails is given up after ``max_hold``, though it has attempts left.

Invariants:

- H1. Only a message that is parked is given up. One that waits for its turn, runs or is being written never is.
- H2. It has then held up its partition for ``max_hold``, and for ``handler_timeout`` if that is longer; a delay that its
  handler asked for is never cut short. Time spent waiting behind others does not count, nor does time for which the brake is engaged.
- H3. A message that holds up its partition for 60 s is named in the log, once.

The time is that since which the message has been the first open one, as seen by a look every quarter of a second: the time
of its arrival would count the hours that it waited behind others, and give it up at its first failure.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import attrs

from pythia_core.clock import Clock
from pythia_core.contracts.message import Message, Partition
from pythia_core.engine.disposition import Disposition
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.offset_ledger import OffsetLedger
from pythia_core.engine.parking import Parking
from pythia_core.errors import Retry

log = logging.getLogger("pythia.hold")

WARN = 60.0  # seconds


class HeldTooLong(Exception):
    """A failing message held up its partition for longer than ``max_hold`` and was given up."""


@attrs.define
class Head:
    """The first open message of a ledger, as it was last seen."""

    ledger: Ledger
    number: int
    since: float
    warned: bool = False


class Hold:
    """Watches the first open message of each partition.

    Args:
        parking: where failing messages wait.
        disposition: gives one up.
        clock: monotonic seconds.
        longest: seconds that a failing message may hold up its partition.
    """

    def __init__(self, parking: Parking, disposition: Disposition, clock: Clock, longest: float) -> None:
        self._parking = parking
        self._disposition = disposition
        self._clock = clock
        self._longest = longest
        self._heads: dict[Partition, Head] = {}

    def look(self, ledgers: Collection[Ledger]) -> None:
        """Look at all partitions, a few times a second."""
        now, before, self._heads = self._clock(), self._heads, {}
        for ledger in ledgers:
            if isinstance(ledger, OffsetLedger) and not (ledger.draining or ledger.stopped):
                self._look_at(ledger, before.get(ledger.partition), now)

    def held(self) -> float:
        """Return for how many seconds the first open message of a partition has been that, the longest of all."""
        now = self._clock()
        return max((now - head.since for head in self._heads.values()), default=0.0)

    def _look_at(self, ledger: OffsetLedger, head: Head | None, now: float) -> None:
        number = ledger.watermark()
        if number == ledger.head:
            return
        if head is None or head.ledger is not ledger or head.number != number:
            head = Head(ledger, number, now)
        self._heads[ledger.partition] = head
        held = now - head.since
        if held < min(WARN, self._longest):
            return
        parked = next((m for m in self._parking.messages() if _is(m, ledger, number)), None)
        if held >= WARN and not head.warned:
            head.warned = True
            self._warn(ledger, number, parked, held)
        if parked is not None and held >= self._longest and not _asked_for_it(parked):
            self._give_up(parked, held)

    def _warn(self, ledger: OffsetLedger, number: int, parked: Message[Any] | None, held: float) -> None:
        log.warning(
            "partition %s: nothing past position %s is settled, for %.0f s now, because that message %s",
            ledger.partition,
            ledger.position_of(number),
            held,
            "fails" if parked is not None else "is not finished",
        )

    def _give_up(self, message: Message[Any], held: float) -> None:
        failure = message._failure
        self._parking.take(lambda other: other is message)
        last = f"{type(failure.error).__name__}: {failure.error}"
        text = f"it held up its partition for {held:.0f} s; attempt {failure.attempts}, the last one, failed: {last}"
        self._disposition.give_up(message, HeldTooLong(text))


def _is(message: Message[Any], ledger: Ledger, number: int) -> bool:
    return message._ledger is ledger and message._sequence == number


def _asked_for_it(message: Message[Any]) -> bool:
    error = message._failure.error
    return isinstance(error, Retry) and error.delay is not None
