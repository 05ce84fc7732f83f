"""Intake decides how much may be fetched: it is the whole of back-pressure. What is not asked for is not fetched.

Invariants:

- N1. No more than ``limits.messages`` messages, but for N6, and ``limits.bytes`` bytes, but for the last fetch, are in
  flight.
- N2. A partition whose span is used up is not asked; the others are.
- N3. Every stop of intake has a reason by name, and intake resumes at 70 % of the bound, so that it does not flutter.
  What stops the whole engine (:mod:`~pythia_core.engine.stops`) stops every fetch.
- N4. ``room`` names first who has waited longest, so that a source that reads in its order is fair to all partitions.
- N5. Where several partitions share the bound on messages, half of it is theirs in equal shares, and only the other half
  goes to whoever comes first: however many partitions are full of parked messages, each of the others has its share.
- N6. What stops intake may need a few messages to end. Where shares and the bounds on messages and spans are used up,
  :attr:`Stops.beyond` says by how much they are raised for these; the bound on bytes never is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio

from pythia_core.contracts.message import Partition
from pythia_core.contracts.middleware import Middleware
from pythia_core.engine.ledger import Entry, Ledger
from pythia_core.engine.stats import Stats
from pythia_core.engine.stops import Stops
from pythia_core.settings import Limits

RESUME = 0.7
MESSAGES, BYTES, SPAN = "messages in flight", "bytes in flight", "span of a partition"
SHARE = "share of a partition"


class Intake:
    """Room for messages, by partition and in all.

    Args:
        limits: the bounds.
        batch: most messages of one fetch.
        stats: counters shared with the rest of the engine.
        gates: middlewares that limit intake.
        stops: why intake is stopped whatever there is room for.
        measure: returns the bytes in flight.
        changed: called with a reason and whether intake is now stopped by it.
    """

    def __init__(
        self,
        limits: Limits,
        batch: int,
        stats: Stats,
        gates: Sequence[Middleware],
        stops: Stops,
        *,
        measure: Callable[[], int],
        changed: Callable[[str, bool], None],
    ) -> None:
        self._limits = limits
        self._batch = batch
        self._stats = stats
        self._gates = gates
        self._stops = stops
        self._measure = measure
        self._changed = changed
        self._bytes = (
            0  # bytes in flight, or more: what has finished since they were last measured still counts
        )
        self._full: dict[Partition, Ledger] = {}
        self._ledgers: dict[Partition, Ledger] = {}  # those that are asked, by partition
        self._rooms: dict[Partition, int] = {}  # what their spans allow, longest wait first
        self.reasons: dict[str, None] = {}
        self.room: Mapping[Partition, int] = self._rooms  # what the next fetch may bring
        self.resume_at: int | None = None  # the count of finished messages at which intake may go on
        self.resumed = anyio.Event()
        self.delay: float | None = None  # seconds until a gate is worth asking again

    @property
    def left_out(self) -> bool:
        """True while an assigned partition is not asked because its span or its share is used up."""
        return bool(self._full) or SHARE in self.reasons

    def open(self, ledger: Ledger) -> None:
        """Begin to ask for a partition."""
        self._ledgers[ledger.partition] = ledger
        self._rooms[ledger.partition] = self._limits.span
        self.resumed.set()

    def close(self, partition: Partition) -> None:
        """Ask for a partition no longer."""
        self._ledgers.pop(partition, None)
        self._rooms.pop(partition, None)
        if self._full.pop(partition, None) and not self._full:
            self._set(SPAN, False)

    def admitted(self, entries: Iterable[Entry]) -> None:
        """Take note that messages were admitted.

        As long as a partition has used up less than half of its span, what was finished meanwhile is not looked at: its
        room is then smaller than it might be, but more than half of the span.
        """
        span, rooms = self._limits.span, self._rooms
        for ledger, messages, _ in entries:
            if ledger.stopped is not None:  # by a fetch that began before it stopped
                continue
            partition = ledger.partition
            if partition in self._full:  # what was let in beyond its span
                continue
            asked = rooms.pop(partition, None)
            rest = 0 if asked is None else asked - len(messages)
            if rest <= span // 2:
                rest = span - ledger.span()
            if rest > 0:
                rooms[partition] = rest  # the last in line
            elif asked is not None:
                self._full[partition] = ledger
                self._set(SPAN, True)

    def limit(self) -> int:
        """Return how many messages the next fetch may bring.

        If that is 0, :attr:`resumed` is set when it is worth asking again, or :attr:`delay` says when.
        """
        self._refill()
        limits, stats = self._limits, self._stats
        if self._bytes >= limits.bytes or BYTES in self.reasons:
            self._bytes = self._measure()
        self._check(BYTES, self._bytes, limits.bytes)
        most = min(self._batch, limits.messages - stats.in_flight)
        self.room = self._rooms
        contended = self._shared and stats.in_flight + most > limits.messages // 2
        if contended:
            self.room, most = self._shares(most)
        self._set(SHARE, contended and len(self.room) < len(self._rooms))
        if self._shared:  # then shares keep it from fluttering, and what is parked must not stop the rest
            self._set(MESSAGES, most <= 0)
        else:
            self._check(MESSAGES, stats.in_flight, limits.messages)
        stopped = MESSAGES in self.reasons or BYTES in self.reasons or not self.room
        if self._stops:
            most = min(most, self._stops.allowed)
            if (stopped or self.left_out) and BYTES not in self.reasons and (beyond := self._stops.beyond):
                most = min(self._stops.allowed, limits.messages + beyond - stats.in_flight)
                self.room = self._raised(beyond)
                stopped = most <= 0 or not self.room
        count = 0 if stopped or most == 0 else self._gated(most)
        if count == 0:
            self.resumed = anyio.Event()
        self.resume_at = self._resume_at() if stopped else None
        return count

    def _resume_at(self) -> int:
        """Return the count of finished messages at which it is worth asking again."""
        stats = self._stats
        if MESSAGES in self.reasons and not self._shared:
            return stats.received - int(self._limits.messages * RESUME)
        if BYTES in self.reasons:
            return stats.finished + max(stats.in_flight // 10, 1)
        return stats.finished + (_worthwhile(self._share) if self._shared else 1)

    @property
    def _shared(self) -> bool:
        return len(self._ledgers) > 1

    @property
    def _share(self) -> int:
        """How many messages each partition may have in flight, whatever the others have."""
        return max(self._limits.messages // (2 * len(self._ledgers)), 1)

    def _shares(self, most: int) -> tuple[Mapping[Partition, int], int]:
        """Return the room and the limit that leave every partition its share."""
        messages, share = self._limits.messages, self._share
        least = _worthwhile(share)
        owed = {p: max(share - ledger.open_count(), 0) for p, ledger in self._ledgers.items()}
        common = messages - self._stats.in_flight - sum(owed.values())
        if common < _worthwhile(messages - share * len(owed)):
            common = 0
        rest = {p: common + (owed[p] if owed[p] >= least else 0) for p in self._rooms}
        room = {p: min(span, rest[p]) for p, span in self._rooms.items() if rest[p] > 0}
        return room, min(most, common or most)

    def _raised(self, beyond: int) -> Mapping[Partition, int]:
        """Return the room of all partitions with their spans raised."""
        span = self._limits.span + beyond
        return {p: rest for p, ledger in self._ledgers.items() if (rest := span - ledger.span()) > 0}

    def bytes(self) -> int:
        """Return how many bytes the next fetch should bring at the most."""
        return max(self._limits.bytes - self._bytes, 1)

    def bytes_admitted(self, count: int) -> None:
        """Take note of bytes that came in. They are measured only when they might reach the bound."""
        self._bytes += count

    def _check(self, reason: str, value: int, bound: int) -> None:
        if reason in self.reasons:
            if value <= bound * RESUME:
                self._set(reason, False)
        elif value >= bound:
            self._set(reason, True)

    def _set(self, reason: str, stopped: bool) -> None:
        if stopped == (reason in self.reasons):
            return
        if stopped:
            self.reasons[reason] = None
        else:
            del self.reasons[reason]
        self._changed(reason, stopped)

    def _refill(self) -> None:
        if not self._full:
            return
        for partition, ledger in list(self._full.items()):
            rest = self._limits.span - ledger.span()
            if rest >= self._limits.span * (1 - RESUME):
                del self._full[partition]
                self._rooms[partition] = rest
        if not self._full:
            self._set(SPAN, False)

    def _gated(self, count: int) -> int:
        self.delay = None
        for gate in self._gates:
            admission = gate.admit(count)
            if admission.count < count:
                self.delay = max(self.delay or 0.0, admission.delay)
            count = admission.count
        return count


def _worthwhile(bound: int) -> int:
    """Return how much of a bound must be free before it is worth a fetch."""
    return bound - int(bound * RESUME)
