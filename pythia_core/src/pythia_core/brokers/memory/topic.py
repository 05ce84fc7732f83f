"""Topics: what has been published, in order, and never changed. Who has read what is the groups' affair, not theirs."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import attrs

from pythia_core.contracts.message import Headers

if TYPE_CHECKING:
    from pythia_core.brokers.memory.group import Group

Key = str | bytes | None


@attrs.define(eq=False)
class Record:
    """One message as it lies in its topic.

    Args:
        value: the body.
        key: what its partition was chosen by, or None.
        headers: names may repeat; values are str, bytes or None.
        timestamp: seconds since the epoch.
        published: seconds of the broker's own clock, for ages.
        partition, offset: where it lies; the offset is the topic's to give.
        id: chosen by the publisher, or made of where it lies.
        delay: seconds for which it is held back.
    """

    value: bytes
    key: Key
    headers: Headers
    timestamp: float
    published: float
    partition: int
    offset: int = -1
    id: str = ""
    delay: float = 0.0


def _fit(records: Sequence[Record], max_bytes: int) -> int:
    """Return how many of the records fit, and at least one: a hint must never stop the flow."""
    for count, size in enumerate(accumulate(len(record.value) for record in records)):
        if size > max_bytes:
            return max(1, count)
    return len(records)


@attrs.define(eq=False)
class Log:
    """One partition: records by offset. Only the oldest may be forgotten, so ``base`` is the first offset still kept."""

    base: int = 0
    records: list[Record] = attrs.field(factory=list)

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        return self.base + len(self.records)

    def read(self, offset: int, count: int, max_bytes: int | None = None) -> list[Record]:
        """Return up to ``count`` records from ``offset`` on, of ``max_bytes`` together, and one however large it is."""
        start = offset - self.base
        records = self.records[start : start + count]
        return records if max_bytes is None else records[: _fit(records, max_bytes)]

    def forget(self, before: int) -> None:
        """Drop the records before an offset."""
        del self.records[: before - self.base]
        self.base = before


class Sleeper(Protocol):
    """Whatever waits for news of a topic: an event of any kind."""

    def set(self) -> object:
        """Wake up."""
        ...


@attrs.define(eq=False)
class Topic:
    """A name, its partitions, its groups, and who sleeps until something happens here.

    Args:
        name: what it is called.
        logs: one for each partition.
        retention: how many records of a partition are kept after every group has settled them.
        groups: by name; each reads everything.
        held: a heap of ``(due, number, record)``: what is published and held back, by the broker's clock.
        sleepers: woken, once, by whatever may give a waiting fetch something to do.
    """

    name: str
    logs: list[Log]
    retention: int
    groups: dict[str, Group] = attrs.field(factory=dict)
    held: list[tuple[float, int, Record]] = attrs.field(factory=list)
    sleepers: set[Sleeper] = attrs.field(factory=set)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)
    _turn: int = 0
    _trim_at: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._trim_at = 2 * self.retention

    def partition_of(self, key: Key) -> int:
        """Return the partition of a key: always the same one; without a key, each in turn."""
        if key is not None:
            return zlib.crc32(key.encode() if isinstance(key, str) else key) % len(self.logs)
        self._turn += 1
        return (self._turn - 1) % len(self.logs)

    def append(self, record: Record) -> None:
        """Append a record to its partition, which gives it its offset, and wake who waits for it."""
        log = self.logs[record.partition]
        record.offset = log.end
        record.id = record.id or f"{self.name}-{record.partition}-{record.offset}"
        log.records.append(record)
        if len(log.records) > self._trim_at:
            self._trim(log, record.partition)
        if self.sleepers:
            self.wake()

    def hold(self, record: Record) -> None:
        """Hold a record back for its delay; whoever sleeps here learns by when it has to look again."""
        heappush(self.held, (record.published + record.delay, next(self._numbers), record))
        self.wake()

    def release(self, now: float) -> None:
        """Append what was held back and is due."""
        while self.held and self.held[0][0] <= now:
            due, _, record = heappop(self.held)
            record.published = due
            self.append(record)

    def wake(self) -> None:
        """Wake everybody who sleeps here."""
        sleepers, self.sleepers = self.sleepers, set()
        for sleeper in sleepers:
            sleeper.set()

    def records(self) -> Iterator[Record]:
        """Yield all records still kept, partition by partition."""
        for log in self.logs:
            yield from log.records

    def _trim(self, log: Log, partition: int) -> None:
        """Forget what all groups have settled, but for the last ``retention``; look again when the log has doubled."""
        settled = min((group.settled_before(partition) for group in self.groups.values()), default=log.base)
        log.forget(max(log.base, settled - self.retention))
        self._trim_at = 2 * max(self.retention, len(log.records))
