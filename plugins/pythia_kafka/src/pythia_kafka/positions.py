"""The committed offsets of a source's group: shown beside what the partitions hold, and moved while it has no members.

Whether it has some, Kafka itself decides when it is asked to commit, so that nobody can join between a look and a move.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import attrs
from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from aiokafka.structs import TopicPartition

from pythia_core import ConfigError, Mark, Move, Positions, Seek, Standing
from pythia_kafka.lag import LagMeter
from pythia_kafka.message import Partition
from pythia_kafka.topics import SECONDS

if TYPE_CHECKING:
    from pythia_kafka.source import KafkaConsumer

REFUSALS = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


@attrs.frozen(kw_only=True)
class Bounds:
    """One partition: what it holds, and how far the group has got.

    Args:
        committed: the next offset of the group; None if it has committed nothing.
        first: the first offset that is there.
        end: the one behind the last that may be read.
        begins: where the group goes on: if nothing is committed, or no longer there, by the source's policy.
    """

    committed: int | None
    first: int
    end: int
    begins: int

    def within(self, offset: int) -> int:
        """Return the nearest offset that there is."""
        return min(max(offset, self.first), self.end)


class KafkaPositions(Positions):
    """Shows and moves the offsets of a group.

    Args:
        source: the resolved source.
    """

    def __init__(self, source: KafkaConsumer) -> None:
        self._source = source
        self._group = source.consumer_group or ""
        self._meter = LagMeter(source.login(), source.isolation_level)

    async def standing(self) -> Standing:
        """See :meth:`pythia_core.Positions.standing`."""
        bounds = await self._bounds()
        times = await self._meter.oldest({p: (b.begins, b.end) for p, b in bounds.items()})
        marks = {
            str(partition): Mark(
                position=None if bound.committed is None else str(bound.committed),
                first=str(bound.first),
                end=str(bound.end),
                waiting=bound.end - bound.begins,
                oldest=times.get(partition),
            )
            for partition, bound in bounds.items()
        }
        return Standing(marks, await self._meter.topics.members(self._group), self._notes(bounds))

    def _notes(self, bounds: Mapping[Partition, Bounds]) -> list[str]:
        notes = []
        if any(bound.committed is None for bound in bounds.values()):
            notes.append(
                f"where nothing is committed it begins by offset_reset, {self._source.offset_reset!r}"
            )
        if any(bound.committed not in (None, bound.begins) for bound in bounds.values()):
            notes.append(
                f"where the committed offset is not there it begins by offset_reset, {self._source.offset_reset!r}"
            )
        return notes

    async def _bounds(self) -> dict[Partition, Bounds]:
        names = await self._names()
        held = await self._meter.bounds(names)
        committed = await self._meter.committed(self._group)
        return {partition: self._bound(committed.get(partition), *held[partition]) for partition in held}

    def _bound(self, found: Any, first: int, end: int) -> Bounds:
        offset = None if found is None else int(found.offset)
        begins = offset
        if begins is None or not first <= begins <= end:
            begins = end if self._source.offset_reset == "latest" else first
        return Bounds(committed=offset, first=first, end=end, begins=begins)

    async def _names(self) -> Collection[str]:
        if self._source.whole_pattern is None:
            return self._source.names
        pattern = re.compile(self._source.whole_pattern)
        return [name for name in await self._meter.topics.describe(None) if pattern.match(name)]

    async def find(self, seek: Seek, partitions: Collection[str]) -> Mapping[str, Move]:
        """See :meth:`pythia_core.Positions.find`. A time is looked up in Kafka's own index of times."""
        bounds = {p: bound for p, bound in (await self._bounds()).items() if str(p) in set(partitions)}
        since = await self._since(seek, bounds)
        found = {p: since[p] if since else _offset(seek, p, bound) for p, bound in bounds.items()}
        return {str(p): Move(str(offset), bounds[p].begins - offset) for p, offset in found.items()}

    async def _since(self, seek: Seek, bounds: Mapping[Partition, Bounds]) -> dict[Partition, int]:
        """Return the first offset since a time for each partition, its end if there is none; nothing for other seeks."""
        if seek.kind != "time":
            return {}
        times = await self._meter.since({partition: int(seek.seconds * 1000) for partition in bounds})
        return {p: bound.within(times.get(p, bound.end)) for p, bound in bounds.items()}

    async def move(self, to: Mapping[str, str], *, force: bool = False) -> None:
        """See :meth:`pythia_core.Positions.move`. Kafka refuses while the group has members, and is not to be forced.

        The note beside an offset, of what was done out of turn behind it, is left out: it would speak of the old one.
        """
        offsets = {_partition(name): int(offset) for name, offset in to.items()}
        try:
            with anyio.fail_after(SECONDS):
                await self._meter.topics.commit(self._group, offsets)
        except REFUSALS as error:
            members = "\n  ".join(await self._meter.topics.members(self._group)) or type(error).__name__
            raise ConfigError(
                f"Kafka moves no offset of a group that has members, and --force changes nothing about that; stop those of "
                f"{self._group!r} first:\n  {members}"
            ) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._meter.aclose()


def _offset(seek: Seek, partition: TopicPartition, bound: Bounds) -> int:
    if seek.kind == "earliest":
        return bound.first
    if seek.kind == "latest":
        return bound.end
    if seek.kind == "by":
        return bound.within(bound.begins + seek.messages)
    if not seek.position.isdigit() or not bound.first <= int(seek.position) <= bound.end:
        raise ConfigError(
            f"{partition.topic}-{partition.partition} has no offset {seek.position!r}, only {bound.first} to {bound.end}; "
            "earliest and latest are understood too, and --partition names one of several"
        )
    return int(seek.position)


def _partition(name: str) -> TopicPartition:
    topic, _, number = name.rpartition("-")
    return TopicPartition(topic, int(number))
