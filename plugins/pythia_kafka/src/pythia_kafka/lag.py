"""How much a group has left: committed offsets against what is in the partitions, and how old the oldest of it is."""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Mapping
from typing import Any, Final

import anyio
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pythia_core import Backlog
from pythia_kafka.connecting import client_options, close, confine
from pythia_kafka.message import Partition
from pythia_kafka.options import Login
from pythia_kafka.topics import SECONDS, NotThere, Topics

AGE_SECONDS: Final = 2.0  # for reading the oldest messages
HEAD_BYTES: Final = 64 << 10  # of a partition, to read one message
CLOSE_SECONDS: Final = 2.0

UNCOORDINATED: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


class LagMeter:
    """Counts what groups have left. It connects when it is first asked, and anew after an error.

    Args:
        login: the cluster.
        isolation_level: whether what transactions have not committed counts.
    """

    def __init__(self, login: Login, isolation_level: str = "read_committed") -> None:
        self._login = login
        self._isolation_level = isolation_level
        self.topics = Topics(login)
        self._reader: Any = None
        self._asking = anyio.Lock()
        self._ages: dict[TopicPartition, tuple[int, float]] = {}  # offset and time of the message there

    async def backlog(
        self, group: str, names: Collection[str], *, ages: bool = False, unknown_group_reads_all: bool = False
    ) -> Backlog:
        """Return what a group has left of some topics.

        What it has committed nothing of counts from the first message that is there. Markers of transactions count as
        messages where they are behind the committed offset, since nobody tells how many they are.

        Args:
            group: the consumer group.
            names: the topics.
            ages: read the oldest messages, to know how old they are.
            unknown_group_reads_all: count for a group that is not there what it would read.

        Raises:
            NotThere: if there is no such group or topic.
            KafkaError: if the cluster cannot be asked.
        """
        try:
            with anyio.fail_after(SECONDS):
                async with self._asking:
                    committed = await self._when_coordinated(group, unknown_group_reads_all)
                    left = await self._left(names, committed)
                    oldest = await self._oldest(left) if ages else {}
        except (KafkaError, TimeoutError, OSError):
            await self.aclose()
            raise
        return _sum(left, oldest, time.time())

    async def left(self, group: str, names: Collection[str]) -> dict[Partition, tuple[int, int]]:
        """Return the next offset to read and the end, for each partition; all of it for a group that is not there.

        Raises:
            NotThere: if there is no such topic.
            KafkaError: if the cluster cannot be asked.
        """
        with anyio.fail_after(SECONDS):
            async with self._asking:
                return await self._left(names, await self._when_coordinated(group, or_nothing=True))

    async def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what a group has committed, which is nothing if it is not there.

        Raises:
            KafkaError: if the cluster cannot be asked.
        """
        with anyio.fail_after(SECONDS):
            return await self._when_coordinated(group, or_nothing=True)

    async def bounds(self, names: Collection[str]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset that is there, and the one behind the last, for each partition of some topics.

        Raises:
            NotThere: if there is no such topic.
            KafkaError: if the cluster cannot be asked.
        """
        with anyio.fail_after(SECONDS):
            async with self._asking:
                return await self._bounds(names)

    async def oldest(self, left: Mapping[Partition, tuple[int, int]]) -> dict[Partition, float]:
        """Return the times, in seconds since the epoch, of the first of what is left, as far as they are had in a moment.

        Args:
            left: the next offset to read and the end, for each partition.
        """
        with anyio.fail_after(SECONDS):
            async with self._asking:
                return await self._oldest(left)

    async def since(self, times: Mapping[Partition, int]) -> dict[TopicPartition, int]:
        """Return the first offset since a time in milliseconds; partitions that have none since then have no entry."""
        with anyio.fail_after(SECONDS):
            async with self._asking:
                found = await (await self._connected()).offsets_for_times(dict(times))
        return {partition: place.offset for partition, place in found.items() if place is not None}

    async def _when_coordinated(
        self, group: str, or_nothing: bool
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Ask until somebody coordinates the group: nobody does at first on a new cluster, and after a broker's end."""
        while True:
            try:
                return await self._committed(group, or_nothing)
            except UNCOORDINATED:
                await anyio.sleep(0.1)

    async def _committed(self, group: str, or_nothing: bool) -> Mapping[TopicPartition, OffsetAndMetadata]:
        try:
            return await self.topics.committed(group)
        except NotThere:
            if or_nothing:
                return {}
            raise

    async def _left(
        self, names: Collection[str], committed: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[Partition, tuple[int, int]]:
        """Return the next offset to read and the end, for each partition."""
        left = {}
        for partition, (start, end) in (await self._bounds(names)).items():
            offset = committed[partition].offset if partition in committed else -1
            first = max(offset, start)
            left[partition] = (first, max(end, first) if offset <= end else first)
        return left

    async def _bounds(self, names: Collection[str]) -> dict[Partition, tuple[int, int]]:
        there = await self.topics.describe(None)
        if missing := [name for name in names if name not in there]:
            raise NotThere(f"Kafka at {self._login} has no topic {', '.join(missing)}, or we may not see it")
        partitions = [Partition(name, number) for name in names for number in range(there[name])]
        reader = await self._connected()
        starts = await reader.beginning_offsets(partitions)
        ends = await reader.end_offsets(partitions)
        return {partition: (starts[partition], ends[partition]) for partition in partitions}

    async def _oldest(self, left: Mapping[Partition, tuple[int, int]]) -> dict[Partition, float]:
        """Return the times of the first messages that are left, as far as they can be had in a moment."""
        behind = {partition: first for partition, (first, end) in left.items() if end > first}
        wanted = {p: first for p, first in behind.items() if self._ages.get(p, (-1, 0))[0] != first}
        if wanted:
            reader = await self._connected()
            reader.assign(list(wanted))
            for partition, first in wanted.items():
                reader.seek(partition, first)
            with anyio.move_on_after(AGE_SECONDS):
                await self._read_heads(reader, wanted)
        self._ages = {p: age for p, age in self._ages.items() if p in behind}
        return {
            p: self._ages[p][1] for p, first in behind.items() if self._ages.get(p, (-1, 0.0))[0] == first
        }

    async def _read_heads(self, reader: Any, wanted: Mapping[Partition, int]) -> None:
        rest = set(wanted)
        while rest:
            found: Mapping[TopicPartition, list[Any]] = await reader.getmany(*rest, timeout_ms=200)
            for partition in list(rest):
                if records := found.get(partition):
                    self._ages[partition] = (wanted[partition], records[0].timestamp / 1000)
                    rest.discard(partition)

    async def _connected(self) -> Any:
        if self._reader is None:
            reader: Any = AIOKafkaConsumer(
                **client_options(self._login),
                request_timeout_ms=int(SECONDS * 1000),
                isolation_level=self._isolation_level,
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_partition_fetch_bytes=HEAD_BYTES,
            )
            confine(reader._client, self._login)
            try:
                await reader.start()
            except BaseException:
                await close(reader.stop, seconds=CLOSE_SECONDS)
                raise
            self._reader = reader
        return self._reader

    async def aclose(self) -> None:
        """Disconnect."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await close(reader.stop, seconds=CLOSE_SECONDS)
        await self.topics.aclose()


def _sum(left: Mapping[Partition, tuple[int, int]], oldest: Mapping[Partition, float], now: float) -> Backlog:
    parts: dict[Hashable, Backlog] = {
        partition: Backlog(
            waiting=end - first,
            oldest_age_seconds=max(now - oldest[partition], 0.0) if partition in oldest else None,
        )
        for partition, (first, end) in left.items()
    }
    return Backlog(
        waiting=sum(end - first for first, end in left.values()),
        oldest_age_seconds=max(now - min(oldest.values()), 0.0) if oldest else None,
        by_partition=parts,
    )
