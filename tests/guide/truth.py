"""Holds what KafkaAdmin says of a lag against what two bare clients say before and after it, while workers run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import anyio
import attrs
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import TopicPartition

from pythia.brokers.kafka import KafkaAdmin
from pythia_kafka.topics import NotThere
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually

Pair = tuple[str, str]
"""A consumer group and a topic."""

LEAST: Final = 3  # answers to each question


@attrs.define(eq=False)
class Truth:
    """Asks an admin, and knows better.

    Args:
        admin: whom it asks.
        offsets: tells what was committed.
        ends: tells what was published.
    """

    admin: KafkaAdmin
    offsets: AIOKafkaAdminClient
    ends: AIOKafkaConsumer
    answers: dict[Pair, list[int]] = attrs.field(factory=lambda: defaultdict(list))

    @classmethod
    @asynccontextmanager
    async def connected(cls, server: KafkaServer) -> AsyncIterator[Truth]:
        """Connect for one block."""
        async with AsyncExitStack() as stack:
            admin = await stack.enter_async_context(KafkaAdmin(bootstrap_servers=server.address))
            offsets = AIOKafkaAdminClient(bootstrap_servers=server.address)
            ends = AIOKafkaConsumer(bootstrap_servers=server.address)
            stack.push_async_callback(offsets.close)
            stack.push_async_callback(ends.stop)
            await offsets.start()
            await ends.start()
            yield cls(admin, offsets, ends)

    async def ask(self, pair: Pair) -> None:
        """Ask once. Ends and commits only grow, so that the answer lies between two differences."""
        done, sent = await self._counts(pair)
        try:
            lag = await self.admin.get_consumer_lag(*pair)
        except NotThere:
            assert done is None, f"{pair} has committed {done}, and the admin does not know it"
            return
        done_then, sent_then = await self._counts(pair)
        assert sent - (done_then or 0) <= lag <= sent_then - (done or 0), pair
        self.answers[pair].append(lag)

    async def _counts(self, pair: Pair) -> tuple[int | None, int]:
        """Return how much of a topic a group has committed, None if nothing, and how much is in it."""
        group, topic = pair
        committed = await self._committed(group)
        done = [offset.offset for partition, offset in committed.items() if partition.topic == topic]
        (described,) = await self.offsets.describe_topics([topic])
        partitions = [TopicPartition(topic, each["partition"]) for each in described["partitions"]]
        return sum(done) if done else None, sum((await self.ends.end_offsets(partitions)).values())

    async def _committed(self, group: str) -> Any:
        while True:
            try:
                return await self.offsets.list_consumer_group_offsets(group)
            except GroupCoordinatorNotAvailableError:  # on a new cluster, and whoever asks first has it made
                await anyio.sleep(0.1)

    async def watch(self, *pairs: Pair) -> None:
        """Ask again and again."""
        while True:
            for pair in pairs:
                await self.ask(pair)
            await anyio.sleep(0.02)  # for the workers to get on

    async def told_of_the_end(self, *pairs: Pair) -> None:
        """Wait until there is no lag left by what the admin says."""

        def ended() -> bool:
            return all(len(self.answers[pair]) >= LEAST and self.answers[pair][-1] == 0 for pair in pairs)

        await eventually(ended, "the admin said that nothing was left")


@asynccontextmanager
async def watched(server: KafkaServer, *pairs: Pair) -> AsyncIterator[Truth]:
    """Ask all through one block, each answer held to the truth, and at its end until nothing is left."""
    async with Truth.connected(server) as truth, anyio.create_task_group() as group:
        group.start_soon(truth.watch, *pairs)
        yield truth
        await truth.told_of_the_end(*pairs)
        group.cancel_scope.cancel()
