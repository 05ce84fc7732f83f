"""Drive a subscription through its contract, as the engine does, but one call at a time."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self

import anyio
import attrs
import redis

from pythia_core import Assignment, Message, Partition, Refused, Settlement, Start
from pythia_redis import RedisStreamsConsumer
from pythia_redis.group import RELEASED
from pythia_redis.subscription import RedisSubscription
from tests.waiting import eventually

NO_LIMIT = 1 << 30


@attrs.define(eq=False)
class RecordingOwner:
    """An owner that remembers what it was told."""

    assignments: dict[Partition, Assignment] = attrs.field(factory=dict)

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        self.assignments.update(assignments)

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        raise AssertionError("Redis revokes nothing")

    def lost(self, partitions: Sequence[Partition]) -> None:
        raise AssertionError("Redis takes nothing away as a whole")


@attrs.define(eq=False)
class Member:
    """A consumer of a group: a resolved source, its owner and its subscription."""

    source: RedisStreamsConsumer
    owner: RecordingOwner
    subscription: RedisSubscription

    @classmethod
    @asynccontextmanager
    async def join(
        cls, stream: str, *, url: str, consumer_group: str = "workers", **options: Any
    ) -> AsyncIterator[Self]:
        """Subscribe as a worker's start does; close at the end."""
        source = RedisStreamsConsumer(stream, consumer_group=consumer_group, url=url, **options)
        async with cls.subscribed(source.resolve(Start(worker="worker", nonce="ab12"))) as member:
            yield member

    @classmethod
    @asynccontextmanager
    async def subscribed(cls, source: RedisStreamsConsumer) -> AsyncIterator[Self]:
        """Subscribe by a resolved source; close at the end."""
        owner = RecordingOwner()
        subscription = await source.subscribe(owner)
        assert isinstance(subscription, RedisSubscription)
        try:
            yield cls(source, owner, subscription)
        finally:
            await subscription.aclose()

    @property
    def name(self) -> str:
        """What the group calls it."""
        assert self.source.consumer_name is not None
        return self.source.consumer_name

    async def fetch(
        self, limit: int = 500, *, wait: float = 0.01, max_bytes: int = NO_LIMIT
    ) -> list[Message[Any]]:
        """Fetch once."""
        chunks = await self.subscription.fetch({0: limit}, limit, max_bytes, wait)
        assert {chunk.partition for chunk in chunks} <= {0}
        return [message for chunk in chunks for message in chunk.messages]

    async def receive(self, count: int = 1, *, limit: int = 500, seconds: float = 30) -> list[Message[Any]]:
        """Fetch until so many messages have come."""
        found: list[Message[Any]] = []
        with anyio.fail_after(seconds):
            while len(found) < count:
                found += await self.fetch(min(limit, count - len(found)))
        return found

    async def settle(
        self,
        *,
        done: Iterable[Message[Any]] = (),
        released: Iterable[Message[Any]] = (),
        rejected: Iterable[Message[Any]] = (),
        renewed: Iterable[Message[Any]] = (),
    ) -> Sequence[Refused]:
        """Settle under the present assignment; the answer is what was refused."""
        settlement = Settlement(
            0,
            self.owner.assignments[0].id,
            beyond=positions(done),
            released=positions(released),
            rejected=positions(rejected),
            renewed=positions(renewed),
        )
        return await self.subscription.settle([settlement])


class Members(Protocol):
    """What the fixture `members` hands out."""

    async def __call__(self, stream: str = ..., *, url: str = ..., **options: Any) -> Member:
        """Join; the subscription is closed with the test."""
        ...


def positions(messages: Iterable[Message[Any]]) -> tuple[str, ...]:
    """Return the positions of messages, as a settlement names them."""
    return tuple(message.position for message in messages)


def add(client: redis.Redis, count: int = 1, *, stream: str = "events", start: int = 0) -> list[str]:
    """Write so many entries, with the body {"n": number}, and return their ids."""
    with client.pipeline(transaction=False) as pipeline:
        for number in range(start, start + count):
            pipeline.xadd(stream, {"body": f'{{"n": {number}}}'})
        return pipeline.execute()


def pending(
    client: redis.Redis, *, stream: str = "events", group: str = "workers"
) -> dict[str, tuple[str, int]]:
    """Return who has which entry, and how often it was delivered: ``{id: (consumer, deliveries)}``."""
    rows: Any = client.xpending_range(stream, group, "-", "+", 100_000)
    return {row["message_id"]: (row["consumer"], row["times_delivered"]) for row in rows}


def calls(client: redis.Redis, command: str) -> int:
    """Return how often the server has executed a command, such as `xack` or `xgroup|create`."""
    statistics: Any = client.info("commandstats")
    names = command, command.partition("|")[0]  # before Redis 7.0 a command's parts are not told apart
    found = next((name for name in names if f"cmdstat_{name}" in statistics), None)
    return int(statistics[f"cmdstat_{found}"]["calls"]) if found else 0


def consumers(client: redis.Redis) -> dict[str, int]:
    """Return the workers that the group lists, and how much is pending for each: ``{name: pending}``."""
    rows: Any = client.xinfo_consumers("events", "workers")
    return {row["name"]: row["pending"] for row in rows if row["name"] != RELEASED}


async def blocked(client: redis.Redis) -> None:
    """Wait until a read waits in the server."""

    def waits() -> bool:
        info: Any = client.info("clients")
        return bool(info["blocked_clients"])

    await eventually(waits, "a read waited in the server")
