"""One reader of a topic: a subscription, its owner, and short words for what tests do with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs

from pythia_core.brokers.memory import Member, MemoryBroker, MemoryConsumer, MemorySubscription
from pythia_core.contracts import Message, Partition, Refusals, Settlement
from tests.memory.owner import Recorder

PLENTY = 1 << 20


class ManualClock:
    """A broker's clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@attrs.define(eq=False)
class Reader:
    """A subscription and its owner."""

    subscription: MemorySubscription
    owner: Recorder

    @property
    def member(self) -> Member:
        """Who it is in its group."""
        return self.subscription.member

    @property
    def partitions(self) -> list[Partition]:
        """What it holds."""
        return sorted(self.owner.held, key=str)

    async def fetch(
        self, limit: int = PLENTY, *, wait: float = 0.0, max_bytes: int = PLENTY
    ) -> list[Message[Any]]:
        """Return the messages of one fetch with room everywhere."""
        room = dict.fromkeys(self.owner.held, PLENTY)
        chunks = await self.subscription.fetch(room, limit, max_bytes, wait)
        return [message for chunk in chunks for message in chunk.messages]

    async def values(self, limit: int = PLENTY, *, wait: float = 0.0) -> list[bytes]:
        """Return the bodies of one fetch."""
        return [message.raw for message in await self.fetch(limit, wait=wait)]

    async def settle(self, partition: Partition = 0, **verbs: Any) -> Refusals:
        """Settle under the present assignment."""
        return await self.subscription.settle([Settlement(partition, self.owner.held[partition].id, **verbs)])

    async def serve(self, received: list[bytes]) -> None:
        """Fetch as an engine does, for ever."""
        while True:
            received += await self.values(wait=0.5)


@asynccontextmanager
async def reading(
    broker: MemoryBroker,
    topic: str = "orders",
    *,
    on_revoked: Callable[[Sequence[Partition]], Awaitable[object]] | None = None,
    **settings: Any,
) -> AsyncIterator[Reader]:
    """Subscribe for the length of a block."""
    owner = Recorder(on_revoked)
    subscription = await MemoryConsumer(topic, broker=broker, **settings).subscribe(owner)
    assert isinstance(subscription, MemorySubscription)
    try:
        yield Reader(subscription, owner)
    finally:
        with anyio.CancelScope(shield=True):
            await subscription.aclose()


def fill(broker: MemoryBroker, count: int, topic: str = "orders", **options: Any) -> None:
    """Publish the bodies 0, 1, 2 and so on."""
    for number in range(count):
        broker.publish(topic, b"%d" % number, **options)


def positions(messages: Sequence[Message[Any]]) -> tuple[Any, ...]:
    """Return the positions of messages."""
    return tuple(message.position for message in messages)


def up_to(messages: Sequence[Message[Any]], ack: str) -> dict[str, Any]:
    """Return the part of a settlement that says that these messages of one partition are done."""
    last = messages[-1].position
    match ack:
        case "cumulative":
            return {"through": last + 1}
        case "both":
            return {"through": last}
        case _:
            return {"beyond": positions(messages)}
