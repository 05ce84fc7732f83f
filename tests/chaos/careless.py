"""A worker that breaks a promise: it acknowledges what it has not done yet. The judge has to find that out.

Chaos that lets it pass would prove nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pythia_core import Assignment, Chunk, Owner, Partition, Refusals, Settlement
from pythia_redis import RedisStreamsConsumer
from pythia_redis.subscription import RedisSubscription
from tests.chaos import redis_streams
from tests.chaos.worker import Chaos

__all__ = ["Careless"]


class EarlyConsumer(RedisStreamsConsumer):
    """A source whose subscriptions settle everything as soon as it comes."""

    async def subscribe(self, owner: Owner) -> RedisSubscription:
        """Subscribe as ever, and put another `fetch` and `settle` in front."""
        assigned: dict[Partition, Assignment] = {}
        subscription: Any = await super().subscribe(Listener(owner, assigned))
        fetch, settle = subscription.fetch, subscription.settle

        async def fetch_and_settle(*arguments: Any) -> Sequence[Chunk]:
            chunks: Sequence[Chunk] = await fetch(*arguments)
            for chunk in chunks:
                done = tuple(message.position for message in chunk.messages)
                await settle([Settlement(chunk.partition, assigned[chunk.partition].id, beyond=done)])
            return chunks

        async def settle_nothing(settlements: Sequence[Settlement]) -> Refusals:
            return ()

        subscription.fetch, subscription.settle = fetch_and_settle, settle_nothing
        return subscription  # type: ignore[no-any-return]


class Listener:
    """An owner that another one overhears."""

    def __init__(self, owner: Owner, assigned: dict[Partition, Assignment]) -> None:
        self.revoked, self.lost = owner.revoked, owner.lost
        self._owner, self._assigned = owner, assigned

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        """Take note, and pass it on."""
        self._assigned.update(assignments)
        self._owner.assigned(assignments)


class Careless(Chaos):
    """The worker of chaos, on that source."""

    source = EarlyConsumer(
        redis_streams.STREAM, consumer_group=redis_streams.GROUP, lease_seconds=redis_streams.LEASE
    )
