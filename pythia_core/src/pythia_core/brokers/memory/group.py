"""A consumer group: who is in it, which partitions are whose, and what became of every message.

It knows no event loop and no clock; time comes in as ``now``, in seconds. An owner is told at once what it is given
(``assigned``) and what was taken away (``lost``). What it is to *give up* is only written down, because that takes
time: the member asks :meth:`Group.to_give_up`, drains, and says :meth:`Group.gave_up`.

Invariants:
    - Of a group whose partitions are split, a partition has at most one assignment, and its member is alive.
    - An assignment's id is never used again.
    - Only the present assignment of a partition settles anything; all others are refused and change nothing.
    - A member that does not give up in time is expired, so a partition is never without an owner for good.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from pythia_core.brokers.memory.balance import balance
from pythia_core.brokers.memory.cursor import Cursor
from pythia_core.brokers.memory.queue import Queue
from pythia_core.brokers.memory.rules import Rules
from pythia_core.brokers.memory.topic import Record, Topic
from pythia_core.contracts.message import Message, Partition
from pythia_core.contracts.settlement import Assignment, Chunk, Refused, Settlement
from pythia_core.contracts.source import Backlog, Owner

SHARED = 0  # the partition that members of one queue see


@attrs.define(eq=False)
class Member:
    """One subscription, as its group sees it.

    Args:
        name: unique in the group.
        owner: the engine.
        held: assignment id by partition.
        giving: partitions it is to give up and has not been told of.
        revoking: partitions it is giving up.
        deadline: by when it must have given them up.
    """

    name: str
    owner: Owner
    held: dict[Partition, int] = attrs.field(factory=dict)
    giving: set[Partition] = attrs.field(factory=set)
    revoking: set[Partition] = attrs.field(factory=set)
    deadline: float | None = None

    def readable(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Return those of the partitions that may be read, in their order."""
        return [p for p in partitions if p in self.held and p not in self.giving and p not in self.revoking]


class Group:
    """All readers of a topic that share the work.

    Args:
        topic: what is read.
        name: of the group.
        rules: what this broker can do.
        reject: keeps a rejected record, if the rules say so.
    """

    def __init__(self, topic: Topic, name: str, rules: Rules, reject: Callable[[Record], object]) -> None:
        self.topic = topic
        self.name = name
        self.rules = rules
        self.members: list[Member] = []
        self.feeds: dict[Partition, Cursor | Queue] = {}
        self._reject = reject
        self._target: dict[Member, set[Partition]] = {}
        self._last_id = 0
        for partition in range(len(topic.logs)):
            self.add_partition(partition)

    def add_partition(self, partition: int) -> None:
        """Begin to read a partition of the topic. It is given to a member at the next rebalance."""
        log = self.topic.logs[partition]
        if self.rules.ack == "cumulative":
            self.feeds[partition] = Cursor(log, self.rules)
            return
        feed = self.feeds.setdefault(
            partition if self.rules.split else SHARED, Queue(self.rules, self._reject)
        )
        assert isinstance(feed, Queue)
        feed.add(partition, log)

    def follow(self, rules: Rules) -> None:
        """Go by other rules of the same kind from now on. Only a group without members can change them."""
        self.rules = rules
        for feed in self.feeds.values():
            feed.rules = rules

    # Membership --------------------------------------------------------------------------------------

    def join(self, member: Member, now: float) -> None:
        """Take a member in. It is given partitions now, or when others have given up theirs."""
        self.members.append(member)
        self.rebalance(now)

    def leave(self, member: Member, now: float) -> None:
        """Let a member go by its own wish; it is told nothing. What it had out comes back as failed."""
        if member in self.members:
            self.members.remove(member)
            self._end(member, list(member.held))
            self.rebalance(now)

    def expire(self, member: Member, now: float) -> None:
        """Declare a member dead: everything it had is lost to it, and goes to the others."""
        lost = list(member.held)
        if member in self.members:
            member.owner.lost(lost)
        self.leave(member, now)

    def ask_back(self, member: Member, partitions: set[Partition], now: float) -> None:
        """Ask a member to give up exactly these of its partitions, and no longer any others."""
        member.giving = partitions - member.revoking
        if not member.giving and not member.revoking:
            member.deadline = None
        elif member.deadline is None:
            member.deadline = now + self.rules.revoke_seconds

    def to_give_up(self, member: Member) -> list[Partition]:
        """Return what a member is asked for and has not been told of; from here on it is giving that up."""
        asked, member.giving = member.giving, set()
        member.revoking |= asked
        return sorted(asked, key=str)

    def gave_up(self, member: Member, partitions: Sequence[Partition]) -> None:
        """Take back partitions that a member has drained, and hand out what can be handed out."""
        self._end(member, [partition for partition in partitions if partition in member.revoking])
        self._hand_out()

    def _end(self, member: Member, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self.feeds[partition].close(member.held.pop(partition))
            member.giving.discard(partition)
            member.revoking.discard(partition)
        if not member.giving and not member.revoking:
            member.deadline = None

    # Assignment --------------------------------------------------------------------------------------

    def rebalance(self, now: float) -> None:
        """Decide anew who is to have what, ask for what is to move, and hand out what is free."""
        held = {member: set(member.held) for member in self.members}
        if not self.rules.split:
            self._target = {member: {SHARED} for member in self.members}
        elif self.rules.rebalances == "eager":
            self._target = balance(self.feeds, {member: set() for member in held}, move=True)
        else:
            self._target = balance(self.feeds, held, move=self.rules.rebalances is not None)
        for member in self.members:
            keeps = set() if self.rules.rebalances == "eager" else self._target[member]
            self.ask_back(member, held[member] - keeps, now)
        self._hand_out()

    def _hand_out(self) -> None:
        """Assign what nobody holds. Eager groups wait until nobody holds anything."""
        waiting = any(member.giving or member.revoking for member in self.members)
        if not (waiting and self.rules.rebalances == "eager"):
            for member in self.members:
                self._assign(member, [p for p in self._target[member] - set(member.held) if self._is_free(p)])
        self.topic.wake()

    def _is_free(self, partition: Partition) -> bool:
        return not self.rules.split or not any(partition in member.held for member in self.members)

    def _assign(self, member: Member, partitions: Sequence[Partition]) -> None:
        assignments: dict[Partition, Assignment] = {}
        for partition in sorted(partitions, key=str):
            member.held[partition] = self._last_id = self._last_id + 1
            assignments[partition] = self.feeds[partition].assign(self._last_id)
        if assignments:
            member.owner.assigned(assignments)

    # Messages ----------------------------------------------------------------------------------------

    def take(
        self, member: Member, room: Mapping[Partition, int], limit: int, max_bytes: int, now: float
    ) -> list[Chunk]:
        """Deliver what there is within all bounds, in the order of ``room``, which is fair."""
        self.sweep(now)
        alone = limit == 1
        limit = min(limit, self._window_left(member))
        chunks: list[Chunk] = []
        for partition in member.readable(room):
            count = min(room[partition], limit)
            if count > 0 and (chunk := self._chunk(member, partition, count, max_bytes, now, alone)):
                chunks.append(chunk)
                limit -= len(chunk.messages)
                max_bytes -= sum(message.size for message in chunk.messages)
            if limit <= 0 or max_bytes <= 0:
                break
        return chunks

    def _window_left(self, member: Member) -> int:
        if self.rules.window is None:
            return sys.maxsize
        return self.rules.window - sum(self.feeds[p].unsettled(id) for p, id in member.held.items())

    def _chunk(
        self, member: Member, partition: Partition, count: int, max_bytes: int, now: float, alone: bool
    ) -> Chunk | None:
        feed = self.feeds[partition]
        counted = self.rules.capabilities.delivery_count
        messages = [
            Message[Any](
                record.value,
                key=record.key,
                headers=record.headers,
                id=record.id,
                timestamp=record.timestamp,
                partition=partition,
                position=position,
                deliveries=deliveries if counted else None,
            )
            for record, position, deliveries in feed.take(
                member.held[partition], count, max_bytes, now, alone=alone
            )
        ]
        position = feed.position if isinstance(feed, Cursor) else None
        return Chunk(partition, messages, position) if messages else None

    def settle(self, member: Member, settlement: Settlement, now: float) -> Refused | None:
        """Do what a settlement says, or refuse what is no longer the member's."""
        self.sweep(now)
        partition, assignment = settlement.partition, settlement.assignment
        if assignment is None or member.held.get(partition) != assignment:
            return Refused(partition, assignment)
        refused = self.feeds[partition].settle(settlement, now)
        if settlement.released or self.rules.window is not None:
            self.topic.wake()
        return Refused(partition, assignment, tuple(refused)) if refused else None

    # Time --------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Do what is due: take back expired leases, and expire members that did not give up in time."""
        for feed in self.feeds.values():
            if feed.expire(now):
                self.topic.wake()
        for member in [m for m in self.members if m.deadline is not None and m.deadline <= now]:
            self.expire(member, now)

    @property
    def next_due(self) -> float | None:
        """When :meth:`sweep` will have something to do, as far as is known now."""
        expiries = (feed.next_expiry for feed in self.feeds.values())
        deadlines = (member.deadline for member in self.members)
        return min((due for due in (*expiries, *deadlines) if due is not None), default=None)

    # Positions ---------------------------------------------------------------------------------------

    def position(self, partition: int) -> int:
        """Return the offset at which a partition goes on."""
        return self.feeds[partition if self.rules.split else SHARED].position_in(partition)

    def move(self, partition: int, offset: int) -> None:
        """Go on at another offset of a partition; of a group without members."""
        self.feeds[partition if self.rules.split else SHARED].move(partition, offset)

    # Counting ----------------------------------------------------------------------------------------

    def settled_before(self, partition: int) -> int:
        """Return the offset before which everything in a partition is settled."""
        return self.feeds[partition if self.rules.split else SHARED].settled_before(partition)

    def backlog(self, now: float) -> Backlog:
        """Return how much is left, exactly; by partition where partitions are what members hold."""
        self.sweep(now)
        parts = {partition: _backlog(feed, now) for partition, feed in self.feeds.items()}
        ages = [part.oldest_age_seconds for part in parts.values() if part.oldest_age_seconds is not None]
        return Backlog(
            waiting=sum(part.waiting or 0 for part in parts.values()),
            in_flight=sum(part.in_flight or 0 for part in parts.values()),
            oldest_age_seconds=max(ages, default=0.0),
            by_partition=parts if self.rules.split else {},
        )

    def states(self) -> tuple[list[Record], list[Record], list[Record]]:
        """Return the records that are waiting, delivered and settled; a record is in exactly one of the three."""
        states = [feed.states() for feed in self.feeds.values()]
        waiting, delivered, settled = (
            [record for part in parts for record in part] for parts in zip(*states, strict=True)
        )
        return waiting, delivered, settled


def _backlog(feed: Cursor | Queue, now: float) -> Backlog:
    waiting, in_flight, oldest = feed.counts()
    return Backlog(waiting, in_flight, 0.0 if oldest is None else max(0.0, now - oldest))
