"""The broker: topics by name, and what a test may ask and do. It lives in this process and dies with it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from pythia_core.brokers.memory.faults import FaultInjection
from pythia_core.brokers.memory.group import Group, Member
from pythia_core.brokers.memory.handover import give_up
from pythia_core.brokers.memory.rules import Rules
from pythia_core.brokers.memory.topic import Key, Log, Record, Topic
from pythia_core.codecs import encode
from pythia_core.contracts.message import NO_HEADERS, Headers, Partition
from pythia_core.contracts.sink import HeaderInput
from pythia_core.contracts.source import Backlog
from pythia_core.errors import ConfigError

DEFAULT_GROUP = "default"
DEAD_LETTERS = ".dlq"  # the suffix of a topic's natural place for dead letters


class MemoryBroker(FaultInjection):
    """Topics in memory, made on first use.

    All its methods belong to the event loop's thread. It needs no loop itself, so it can be made and filled anywhere.

    Args:
        name: for logs and messages; :func:`find_broker` finds a process's default brokers by it.
        partitions: how many a topic gets that nobody declared.
        retention: how many records of a partition are kept after all groups have settled them. What is not settled
            is kept for ever.
        clock: seconds for leases, deadlines and ages.

    Example:
        >>> broker = MemoryBroker()
        >>> broker.publish("orders", {"id": 7}, key="customer-1").id
        'orders-0-0'
    """

    def __init__(
        self,
        name: str = "memory",
        *,
        partitions: int = 1,
        retention: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        self.clock = clock
        self._partitions = partitions
        self._retention = retention
        self._topics: dict[str, Topic] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<MemoryBroker {self.name!r}>"

    # Topics ------------------------------------------------------------------------------------------

    def topic(self, name: str, partitions: int | None = None) -> Topic:
        """Return a topic, made if need be. More partitions than it has are added, and its groups rebalance.

        Raises:
            ConfigError: if it has more partitions than that: they cannot be taken away.
        """
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name, [], self._retention)
            partitions = partitions or self._partitions
        self._grow(topic, partitions or len(topic.logs))
        if topic.held:  # else it may be looked at where there is no clock: outside an event loop
            topic.release(self.clock())
        return topic

    def _grow(self, topic: Topic, partitions: int) -> None:
        present = len(topic.logs)
        if partitions < present:
            raise ConfigError(
                f"topic {topic.name!r} has {present} partitions, which cannot become {partitions}: "
                "ask for as many or more, or leave partitions= out"
            )
        for partition in range(present, partitions):
            topic.logs.append(Log())
            for group in topic.groups.values():
                group.add_partition(partition)
        if partitions > present:
            for group in topic.groups.values():
                group.rebalance(self.clock())

    def publish(
        self,
        topic: str,
        value: Any,
        *,
        key: Key = None,
        headers: HeaderInput | None = None,
        partition: int | None = None,
        id: str = "",
        timestamp: float | None = None,
        delay: float = 0.0,
    ) -> Record:
        """Append a message, at once unless it has a delay: bytes as they are, anything else as JSON.

        Args:
            topic: where to.
            value: the body.
            key: chooses the partition by a stable hash; without one they take turns.
            headers: a mapping, or pairs where a name repeats.
            partition: chosen by hand.
            id: chosen by hand.
            timestamp: seconds since the epoch; now, if left out.
            delay: seconds of the broker's clock for which it is held back.
        """
        place = self.topic(topic)
        record = Record(
            value if type(value) is bytes else encode(value),
            key,
            _headers(headers),
            time.time() if timestamp is None else timestamp,
            self.clock(),
            place.partition_of(key) if partition is None else partition,
            id=id,
            delay=delay,
        )
        (place.hold if delay else place.append)(record)
        return record

    def wake(self) -> None:
        """Wake every waiting fetch."""
        for topic in self._topics.values():
            topic.wake()

    # Groups ------------------------------------------------------------------------------------------

    def group(self, topic: str, name: str, rules: Rules) -> Group:
        """Return a group, made if need be.

        Raises:
            ConfigError: if it is there by other rules: its members must agree, and how it acknowledges is for good.
        """
        rules.check()
        groups = self.topic(topic).groups
        group = groups.get(name)
        if group is None:
            group = groups[name] = self._make_group(topic, name, rules)
        if group.rules != rules:
            if group.members or group.rules.kind != rules.kind:
                raise ConfigError(
                    f"group {name!r} of topic {topic!r} is read by {group.rules}, not by {rules}"
                )
            group.follow(rules)
        return group

    def _make_group(self, topic: str, name: str, rules: Rules) -> Group:
        def reject(record: Record) -> Record:
            headers = record.headers.items_all()
            return self.publish(topic + DEAD_LETTERS, record.value, key=record.key, headers=headers)

        return Group(self.topic(topic), name, rules, reject)

    def new_member_name(self, group: str) -> str:
        """Return a name that no member of any group has had."""
        return f"{group}-{next(self._numbers)}"

    def expire(self, member: Member) -> None:
        """Declare a member's session expired: it loses everything, and joins anew at its next fetch."""
        for group in self._groups_of(member):
            group.expire(member, self.clock())

    async def revoke(self, member: Member, *partitions: Partition) -> None:
        """Have a member give up partitions (all, if none is named) in the caller's task, also if it fetches no more.

        What it gives up is then handed out again: to the same member, if nobody has joined since.
        """
        for group in self._groups_of(member):
            group.ask_back(member, member.giving | set(partitions or member.held), self.clock())
            await give_up(group, member, self.clock)

    def _groups_of(self, member: Member) -> list[Group]:
        groups = (group for topic in self._topics.values() for group in topic.groups.values())
        return [group for group in groups if member in group.members]

    # Looking -----------------------------------------------------------------------------------------

    def _group(self, topic: str, group: str) -> Group:
        groups = self.topic(topic).groups
        if group not in groups:
            raise KeyError(f"topic {topic!r} has no group {group!r}, only {sorted(groups)}")
        return groups[group]

    def members(self, topic: str, group: str = DEFAULT_GROUP) -> tuple[Member, ...]:
        """Return the live members of a group, oldest first, each with the partitions it holds."""
        return tuple(self._group(topic, group).members)

    def committed(self, topic: str, group: str = DEFAULT_GROUP, partition: int = 0) -> int:
        """Return the offset before which everything in a partition is settled, however the group acknowledges."""
        return self._group(topic, group).settled_before(partition)

    def note(self, topic: str, group: str = DEFAULT_GROUP, partition: int = 0) -> str | None:
        """Return the note beside a committed position."""
        return getattr(self._group(topic, group).feeds[partition], "note", None)

    def present_or_new(self, topic: str, group: str, rules: Rules) -> Group:
        """Return a group, or one that is forgotten again: to look makes none."""
        return self.topic(topic).groups.get(group) or self._make_group(topic, group, rules)

    def backlog(self, topic: str, group: str, rules: Rules) -> Backlog:
        """Return what a group has left, and what a new one would have."""
        return self.present_or_new(topic, group, rules).backlog(self.clock())

    def unsettled(self, topic: str, group: str, rules: Rules) -> list[Record]:
        """Return what a group has not settled, or what a new one would have, in the topic's order."""
        waiting, delivered, _ = self.present_or_new(topic, group, rules).states()
        return sorted((*waiting, *delivered), key=lambda record: (record.partition, record.offset))

    def waiting(self, topic: str, group: str = DEFAULT_GROUP) -> list[Record]:
        """Return what is to be delivered."""
        return self._group(topic, group).states()[0]

    def pending(self, topic: str, group: str = DEFAULT_GROUP) -> list[Record]:
        """Return what is delivered and not settled."""
        return self._group(topic, group).states()[1]

    def settled(self, topic: str, group: str = DEFAULT_GROUP) -> list[Record]:
        """Return what will never be delivered again."""
        return self._group(topic, group).states()[2]

    def records(self, topic: str) -> list[Record]:
        """Return everything in a topic that is still kept, partition by partition."""
        return list(self.topic(topic).records())

    def held(self, topic: str) -> list[Record]:
        """Return what was published to a topic and is held back, in the order in which it will come."""
        return [record for _, _, record in sorted(self.topic(topic).held)]

    def dead_letters(self, topic: str) -> list[Record]:
        """Return what lies in the topic's natural place for dead letters."""
        return self.records(topic + DEAD_LETTERS)


def _headers(headers: HeaderInput | None) -> Headers:
    if not headers:
        return NO_HEADERS
    return Headers(headers.items() if isinstance(headers, Mapping) else headers)


_default_brokers: dict[str, MemoryBroker] = {}


def find_broker(broker: str | MemoryBroker | None = None) -> MemoryBroker:
    """Return a broker given as such, or this process's broker of that name, made if need be."""
    if isinstance(broker, MemoryBroker):
        return broker
    name = broker or "memory"
    return _default_brokers.setdefault(name, MemoryBroker(name))
