"""Questions and chores around topics and groups, for workers that scale or tidy up by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from pythia_core import Backlog, NotOpenError, Resource
from pythia_kafka.options import KafkaOptions

if TYPE_CHECKING:
    from pythia_kafka.lag import LagMeter
    from pythia_kafka.topics import Topics


@attrs.define(eq=False)
class KafkaAdmin(KafkaOptions, Resource):
    """Ask how far groups have got; make and remove topics.

    Args:
        bootstrap_servers: see :class:`~pythia_kafka.options.KafkaOptions`, like everything else.

    Example:
        ::

            class Processor(Worker):
                source = KafkaConsumer("orders", consumer_group="order-processors")
                admin = KafkaAdmin()

                async def should_scale_up(self):
                    return await self.admin.get_consumer_lag("order-processors", "orders") > 1000
    """

    _meter: LagMeter | None = attrs.field(default=None, init=False, repr=False)

    @property
    def broker_connections(self) -> int:
        """Two clients, each of which connects to every broker it needs."""
        return 2

    async def open(self) -> None:
        """Be ready to connect, which happens at the first question."""
        from pythia_kafka.lag import LagMeter

        self._meter = LagMeter(self.login())

    async def aclose(self) -> None:
        """Disconnect."""
        meter, self._meter = self._meter, None
        if meter is not None:
            await meter.aclose()

    async def backlog(self, consumer_group: str, topic: str) -> Backlog:
        """Return what a group has left of a topic, by partition, and how old the oldest of it is.

        Raises:
            NotThere: if there is no such topic or group.
            KafkaError: if the cluster cannot be asked.
        """
        return await self._opened().backlog(consumer_group, [topic], ages=True)

    async def get_consumer_lag(self, consumer_group: str, topic: str) -> int:
        """Return how many messages of a topic a group has not committed.

        Raises:
            NotThere: if there is no such topic or group.
            KafkaError: if the cluster cannot be asked.
        """
        return (await self._opened().backlog(consumer_group, [topic])).waiting or 0

    async def topics(self) -> dict[str, int]:
        """Return how many partitions each topic has."""
        return await self._topics().describe(None)

    async def create_topic(
        self,
        topic: str,
        *,
        partitions: int = -1,
        replicas: int = -1,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Make a topic; one that is there already is left as it is.

        Args:
            topic: its name.
            partitions: how many; -1 is the broker's default.
            replicas: of each partition; -1 is the broker's default.
            config: the topic's own settings, such as ``{"retention.ms": "60000"}``.
        """
        await self._topics().create(topic, partitions=partitions, replicas=replicas, config=config)

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic and all that is in it.

        Raises:
            NotThere: if there is no such topic.
        """
        await self._topics().delete(topic)

    async def add_partitions(self, topic: str, total: int) -> None:
        """Give a topic so many partitions in all. Messages of a key may then go to another partition than before."""
        await self._topics().add_partitions(topic, total)

    def _topics(self) -> Topics:
        return self._opened().topics

    def _opened(self) -> LagMeter:
        if self._meter is None:
            raise NotOpenError("KafkaAdmin is not open: use `async with`, or await open() first")
        return self._meter
