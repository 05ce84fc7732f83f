"""Drive a subscription through its contract, as the engine does, but one call at a time; and a bare client beside it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self

import anyio
import attrs
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pythia_core import Assignment, Chunk, Message, Partition, Refused, Settlement, Start
from pythia_kafka import KafkaConsumer
from pythia_kafka.subscription import KafkaSubscription
from tests.waiting import eventually

NO_LIMIT = 1 << 30
QUICK: Mapping[str, Any] = {"session_timeout": 6.0, "rebalance_timeout": 6.0}
"""What a member of a test is given: a broker waits for 6 s at the most before it goes on without one that is gone."""


class MakeTopic(Protocol):
    """What the fixture `make_topic` hands out."""

    async def __call__(self, partitions: int = ..., **config: str) -> str:
        """Make a topic; underscores in names of settings stand for dots."""
        ...


@attrs.define(eq=False)
class RecordingOwner:
    """An owner that remembers what it was told, and drains for as long as it is told to."""

    assignments: dict[Partition, Assignment] = attrs.field(factory=dict)
    told: list[str] = attrs.field(factory=list)
    resets: int = 0
    drained: anyio.Event | None = None
    draining: anyio.Event = attrs.field(factory=anyio.Event)
    deadline: float = 0.0

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        self.told.append("assigned")
        self.resets += sum(assignment.reset for assignment in assignments.values())
        self.assignments.update(assignments)

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        self.told.append("revoked")
        self.deadline = deadline
        self.draining.set()
        if self.drained is not None:
            with anyio.CancelScope(deadline=deadline):
                await self.drained.wait()
        self._forget(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.told.append("lost")
        self._forget(partitions)

    def _forget(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self.assignments.pop(partition, None)


@attrs.define(eq=False)
class Member:
    """A member of a group: a resolved source, its owner and its subscription."""

    source: KafkaConsumer
    owner: RecordingOwner
    subscription: KafkaSubscription

    @classmethod
    @asynccontextmanager
    async def join(cls, topic: str | None, **options: Any) -> AsyncIterator[Self]:
        """Subscribe as a worker's start does, and wait for an assignment; leave at the end."""
        assigned = options.pop("assigned", True)
        options = {"consumer_group": f"{topic}-workers", **QUICK, **options}
        source = KafkaConsumer(topic, **options).resolve(Start(worker="worker", nonce="ab12"))
        owner = RecordingOwner()
        subscription = await source.subscribe(owner)
        assert isinstance(subscription, KafkaSubscription)
        member = cls(source, owner, subscription)
        try:
            if assigned:
                await eventually(lambda: "assigned" in owner.told, "the group let us in", seconds=20)
            yield member
        finally:
            await subscription.aclose()

    @property
    def partitions(self) -> set[int]:
        """The numbers of the partitions that are ours."""
        return {partition.partition for partition in self.owner.assignments}  # type: ignore[attr-defined]

    async def chunks(
        self, limit: int = 500, *, wait: float = 0.05, room: Mapping[Partition, int] | None = None
    ) -> Sequence[Chunk]:
        """Fetch once; from all partitions, unless room says otherwise."""
        if room is None:
            room = dict.fromkeys(self.owner.assignments, limit)
        return await self.subscription.fetch(room, limit, NO_LIMIT, wait)

    async def fetch(self, limit: int = 500, *, wait: float = 0.05) -> list[Message[Any]]:
        """Fetch once and return the messages."""
        return [message for chunk in await self.chunks(limit, wait=wait) for message in chunk.messages]

    async def receive(self, count: int = 1, *, seconds: float = 30) -> list[Message[Any]]:
        """Fetch until so many messages have come."""
        found: list[Message[Any]] = []
        with anyio.fail_after(seconds):
            while len(found) < count:
                found += await self.fetch(count - len(found))
        return found

    async def fetch_until(self, condition: Any, what: str, *, seconds: float = 30) -> list[Message[Any]]:
        """Fetch until something is so; return what came."""
        found: list[Message[Any]] = []
        with anyio.fail_after(seconds):
            while not condition():
                found += await self.fetch()
        return found

    async def commit(self, through: int, *, partition: int = 0, note: str | None = None) -> Sequence[Refused]:
        """Settle a partition of the only topic under its present assignment."""
        (key,) = [key for key in self.owner.assignments if key.partition == partition]  # type: ignore[attr-defined]
        return await self.settle(Settlement(key, self.owner.assignments[key].id, through=through, note=note))

    async def settle(self, *settlements: Settlement) -> Sequence[Refused]:
        """Settle as it is said."""
        return await self.subscription.settle(settlements)


class Members(Protocol):
    """What the fixture `members` hands out."""

    async def __call__(self, topic: str | None, **options: Any) -> Member:
        """Join; the subscription is closed with the test."""
        ...


@attrs.define(eq=False)
class Publisher:
    """The bare client's producer."""

    address: str
    producer: AIOKafkaProducer

    @classmethod
    @asynccontextmanager
    async def connected(cls, address: str, **options: Any) -> AsyncIterator[Self]:
        """Connect for one block."""
        producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", **options)
        await producer.start()
        try:
            yield cls(address, producer)
        finally:
            await producer.stop()

    async def publish(
        self,
        topic: str,
        count: int = 1,
        *,
        start: int = 0,
        partition: int | None = 0,
        keys: int = 0,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None:
        """Publish so many messages `{"n": number}`, to one partition or, with None, by one of so many keys."""
        futures = [
            await self.producer.send(
                topic,
                b'{"n": %d}' % number,
                key=b"k%d" % (number % keys) if keys else None,
                partition=partition,
                headers=list(headers),
            )
            for number in range(start, start + count)
        ]
        for future in futures:
            await future


async def committed(address: str, group: str) -> dict[int, tuple[int, str]]:
    """Return what a group has committed of its only topic, and the text beside it, by the bare admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    await client.start()
    try:
        offsets: dict[TopicPartition, OffsetAndMetadata] = await client.list_consumer_group_offsets(group)
        return {partition.partition: tuple(offset) for partition, offset in offsets.items()}
    finally:
        await client.close()


@asynccontextmanager
async def reader(address: str, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Read topics from their start by the bare client, outside any group."""
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=address, auto_offset_reset="earliest", group_id=None, **options
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(address: str, topic: str, count: int, *, seconds: float = 30, **options: Any) -> list[Any]:
    """Return the first so many records of a topic."""
    found: list[Any] = []
    async with reader(address, topic, **options) as consumer:
        with anyio.fail_after(seconds):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
    return found
