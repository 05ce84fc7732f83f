"""A queue hands each message to one of its readers and remembers each one until it is settled.

This is individual acknowledgement, as queues and Redis streams know it, and acknowledgement ``both`` ways, which is
AMQP's: a number for each delivery, and the right to settle all up to a number at once. Messages lie in the topic's
logs; the queue holds only what is exceptional: how far it has read, what came back, and what is out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import takewhile

import attrs

from pythia_core.brokers.memory.rules import Rules
from pythia_core.brokers.memory.topic import Log, Record
from pythia_core.contracts.settlement import Assignment, Settlement
from pythia_core.contracts.source import SUSPECT_AFTER


@attrs.define(eq=False)
class Lane:
    """One log as a queue reads it. A record before ``next`` is settled unless it came back or is out.

    Args:
        log: what is read.
        next: the first offset never delivered.
        returned: a heap of ``(offset, failures)``: what is to be delivered again, oldest first.
    """

    log: Log
    next: int
    returned: list[tuple[int, int]] = attrs.field(factory=list)

    def suspect(self) -> tuple[int, int] | None:
        """Return the oldest of what came back that has failed so often that it is to be delivered alone."""
        return min((entry for entry in self.returned if entry[1] >= SUSPECT_AFTER), default=None)


@attrs.define(eq=False)
class Holding:
    """What is out under one assignment.

    Args:
        id: of the assignment.
        last: the number of its last delivery.
        unsettled: by position, in the order of delivery.
        expired: positions whose lease ran out, which are therefore no longer its own.
    """

    id: int
    last: int = 0
    unsettled: dict[Hashable, Delivery] = attrs.field(factory=dict)
    expired: set[Hashable] = attrs.field(factory=set)


@attrs.define(eq=False)
class Delivery:
    """One message on its way: to whom, under which position, after how many failures, and how long it may take.

    ``counts`` is False where failing is not held against it: it is a suspect that was delivered among others.
    """

    record: Record
    holding: Holding
    position: Hashable
    failures: int
    expires: float
    counts: bool


@attrs.define(eq=False)
class Queue:
    """One queue over one or several logs.

    Invariants:
        - A record is in exactly one place: at or past its lane's ``next``, in ``returned``, in one holding's
          ``unsettled``, or settled.
        - A position is never used twice under one assignment, so one that is neither out nor expired was settled.

    Args:
        rules: of the group. Acknowledged both ways, positions are numbers that grow by 1; otherwise they are texts.
        reject: what to do with a rejected record that is to be kept.
        lanes: by the topic's partition.
        holdings: by assignment.
        leases: what has one, in order of expiry.
    """

    rules: Rules
    reject: Callable[[Record], object]
    lanes: dict[int, Lane] = attrs.field(factory=dict)
    holdings: dict[int, Holding] = attrs.field(factory=dict)
    leases: dict[Delivery, None] = attrs.field(factory=dict)
    _turn: int = 0

    def add(self, partition: int, log: Log) -> None:
        """Read one more log, from the earliest that is kept."""
        self.lanes[partition] = Lane(log, log.base)

    def assign(self, id: int) -> Assignment:
        """Open an assignment."""
        self.holdings[id] = Holding(id)
        return Assignment(id)

    def close(self, id: int) -> None:
        """End an assignment: what it had out comes back, as failed."""
        for delivery in self.holdings.pop(id).unsettled.values():
            self.leases.pop(delivery, None)
            self._give_back(delivery, failures=1)

    # Delivery ----------------------------------------------------------------------------------------

    def take(
        self, id: int, count: int, max_bytes: int, now: float, *, alone: bool = False
    ) -> list[tuple[Record, Hashable, int]]:
        """Deliver up to ``count`` records as ``(record, position, deliveries)``: what came back first.

        With ``alone``, which is for a count of 1, a suspect comes before everything else.
        """
        taken: list[tuple[Record, Hashable, int]] = []
        lanes = list(self._in_turn())
        if alone and (suspects := [lane for lane in lanes if lane.suspect()]):
            return list(self._deliver(id, [self._pop_suspect(suspects[0])], now, alone=True))
        for lane in lanes:
            returned = self._returned(lane, count - len(taken), max_bytes)
            taken += self._deliver(id, returned, now)
            if not lane.returned:
                fresh = lane.log.read(lane.next, count - len(taken), max_bytes)
                lane.next += len(fresh)
                taken += self._deliver(id, ((record, 0) for record in fresh), now)
            if len(taken) == count:
                break
        return taken

    def _in_turn(self) -> Iterator[Lane]:
        """Yield the lanes, each time beginning with another one."""
        lanes = list(self.lanes.values())
        self._turn = (self._turn + 1) % len(lanes)
        yield from lanes[self._turn :]
        yield from lanes[: self._turn]

    @staticmethod
    def _pop_suspect(lane: Lane) -> tuple[Record, int]:
        entry = lane.suspect()
        assert entry is not None
        lane.returned.remove(entry)
        heapify(lane.returned)
        return lane.log.read(entry[0], 1)[0], entry[1]

    def _returned(self, lane: Lane, count: int, max_bytes: int) -> list[tuple[Record, int]]:
        found: list[tuple[Record, int]] = []
        while lane.returned and len(found) < count and max_bytes > 0:
            offset, failures = heappop(lane.returned)
            record = lane.log.read(offset, 1)[0]
            max_bytes -= len(record.value)
            found.append((record, failures))
        return found

    def _deliver(
        self, id: int, records: Iterable[tuple[Record, int]], now: float, *, alone: bool = False
    ) -> Iterator[tuple[Record, Hashable, int]]:
        holding = self.holdings[id]
        lease = self.rules.lease_seconds
        expires = now + (lease or 0)
        numbered = self.rules.ack == "both"
        for record, failures in records:
            holding.last = tag = holding.last + 1
            position = tag if numbered else f"{record.partition}-{record.offset}.{tag}"
            counts = alone or failures < SUSPECT_AFTER
            delivery = Delivery(record, holding, position, failures, expires, counts)
            holding.unsettled[position] = delivery
            if lease is not None:
                self.leases[delivery] = None
            yield record, position, failures + 1

    def _give_back(self, delivery: Delivery, failures: int) -> None:
        record = delivery.record
        failed = delivery.failures + failures * delivery.counts
        heappush(self.lanes[record.partition].returned, (record.offset, failed))

    # Settlement --------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, now: float) -> Sequence[Hashable]:
        """Do what is said about each position and return those that are no longer this assignment's.

        Saying the same again changes nothing: a position that is neither out nor expired has been settled before.

        Raises:
            ValueError: if a delivery number was never handed out.
        """
        holding = self.holdings[settlement.assignment]  # type: ignore[index]
        named = (settlement.beyond, settlement.released, settlement.rejected, settlement.renewed)
        if self.rules.ack == "both":
            self._check(holding, settlement.through, *(position for part in named for position in part))
        done = (*self._up_to(holding, settlement.through), *settlement.beyond)
        for delivery in self._pop(holding, settlement.released):
            self._give_back(delivery, failures=0)
        for delivery in self._pop(holding, settlement.rejected):
            if self.rules.keep_rejected:
                self.reject(delivery.record)
        for _ in self._pop(holding, done):
            pass
        self._renew(holding, settlement.renewed, now)
        said = (*done, *settlement.released, *settlement.rejected, *settlement.renewed)
        return [position for position in said if position in holding.expired]

    def _check(self, holding: Holding, *tags: Hashable) -> None:
        for tag in tags:
            if tag is not None and not 1 <= tag <= holding.last:  # type: ignore[operator]
                raise ValueError(f"delivery {tag} was never handed out; the last was {holding.last}")

    def _up_to(self, holding: Holding, through: Hashable) -> list[Hashable]:
        """Return the positions up to a delivery number that are out or expired."""
        if through is None or self.rules.ack != "both":
            return []
        expired = [tag for tag in holding.expired if tag <= through]  # type: ignore[operator]
        return [*expired, *takewhile(lambda tag: tag <= through, holding.unsettled)]  # type: ignore[operator]

    def _pop(self, holding: Holding, positions: Iterable[Hashable]) -> Iterator[Delivery]:
        for position in positions:
            if delivery := holding.unsettled.pop(position, None):
                self.leases.pop(delivery, None)
                yield delivery

    def _renew(self, holding: Holding, positions: Iterable[Hashable], now: float) -> None:
        """Begin leases anew. They are all of one length, so moved to the end they stay in order of expiry."""
        if self.rules.lease_seconds is None:
            return
        for position in positions:
            if delivery := holding.unsettled.get(position):
                del self.leases[delivery]
                delivery.expires = now + self.rules.lease_seconds
                self.leases[delivery] = None

    # Positions ---------------------------------------------------------------------------------------

    def position_in(self, partition: int) -> int:
        """Return the offset that everything before has been delivered of, once at least."""
        return self.lanes[partition].next

    def move(self, partition: int, offset: int) -> None:
        """Deliver from an offset on, while nobody is here. What came back from before it still waits."""
        lane = self.lanes[partition]
        lane.next = offset
        lane.returned = [entry for entry in lane.returned if entry[0] < offset]
        heapify(lane.returned)

    # Leases ------------------------------------------------------------------------------------------

    def expire(self, now: float) -> bool:
        """Take back what was not settled or renewed in time; say whether there was any."""
        overdue = list(takewhile(lambda delivery: delivery.expires <= now, self.leases))
        for delivery in overdue:
            del self.leases[delivery]
            del delivery.holding.unsettled[delivery.position]
            delivery.holding.expired.add(delivery.position)
            self._give_back(delivery, failures=1)
        return bool(overdue)

    @property
    def next_expiry(self) -> float | None:
        """When the next lease runs out, or None."""
        return next((delivery.expires for delivery in self.leases), None)

    # Counting ----------------------------------------------------------------------------------------

    def unsettled(self, id: int) -> int:
        """Return how many messages an assignment has out."""
        return len(self.holdings[id].unsettled)

    def settled_before(self, partition: int) -> int:
        """Return the offset before which everything in a partition is settled."""
        lane = self.lanes[partition]
        out = (delivery.record for delivery in self._out() if delivery.record.partition == partition)
        return min((lane.next, *(offset for offset, _ in lane.returned), *(record.offset for record in out)))

    def states(self) -> tuple[list[Record], list[Record], list[Record]]:
        """Return the records that are waiting, delivered, and settled."""
        delivered = [delivery.record for delivery in self._out()]
        waiting, settled = list[Record](), list[Record]()
        out = set(delivered)
        for lane in self.lanes.values():
            returned = {offset for offset, _ in lane.returned}
            for record in lane.log.records:
                if record.offset >= lane.next or record.offset in returned:
                    waiting.append(record)
                elif record not in out:
                    settled.append(record)
        return waiting, delivered, settled

    def counts(self) -> tuple[int, int, float | None]:
        """Return how many wait, how many are delivered, and when the oldest of them was published."""
        waiting = sum(lane.log.end - lane.next + len(lane.returned) for lane in self.lanes.values())
        in_flight = sum(len(holding.unsettled) for holding in self.holdings.values())
        oldest = [
            lane.log.read(first, 1)[0].published
            for partition, lane in self.lanes.items()
            if (first := self.settled_before(partition)) < lane.log.end
        ]
        return waiting, in_flight, min(oldest, default=None)

    def _out(self) -> Iterator[Delivery]:
        for holding in self.holdings.values():
            yield from holding.unsettled.values()
