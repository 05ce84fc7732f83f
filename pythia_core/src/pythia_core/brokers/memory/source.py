"""The source: what a worker's author writes down, ``MemoryConsumer(topic="orders")``, and what the engine makes of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import anyio.lowlevel
import attrs

from pythia_core.brokers.memory.broker import DEAD_LETTERS, DEFAULT_GROUP, MemoryBroker, find_broker
from pythia_core.brokers.memory.group import Member
from pythia_core.brokers.memory.positions import MemoryPositions
from pythia_core.brokers.memory.rules import Ack, OrderScope, Rebalances, Rules
from pythia_core.brokers.memory.sink import MemoryProducer
from pythia_core.brokers.memory.subscription import MemorySubscription
from pythia_core.contracts.message import Message
from pythia_core.contracts.positions import Positions
from pythia_core.contracts.sink import Sink
from pythia_core.contracts.source import (
    DEAD_LETTER_GROUP,
    SOLO_CRASHES,
    Backlog,
    Capabilities,
    Inspector,
    Owner,
    Source,
    Start,
    Subscription,
)


@attrs.frozen
class MemoryConsumer(Source):
    """Read a topic of the broker in memory.

    As it stands it is a queue: each message goes to one worker of the group and is acknowledged by itself. The other
    arguments turn it into any other kind of broker, which is what tests of an engine need.

    Args:
        topic: what to read; made if it is not there.
        consumer_group: who shares the work; the environment's CONSUMER_GROUP or the worker's name if left out.
        broker: a broker or the name of one of this process's brokers.
        partitions: make the topic with at least so many.
        ack: ``individual`` (each message by itself), ``cumulative`` (a committed position for each partition) or
            ``both`` (delivery numbers, and all up to one at once).
        order_scope: ``partition`` splits the partitions over the members, as ``cumulative`` always does; otherwise all
            members draw from one queue, and this is only what the engine is told.
        window: the most unsettled messages of one member.
        lease_seconds: how long a member may keep a message without renewing it.
        delivery_count: tell how often a message was delivered without being released. Logs never count.
        solo_crashes: deliveries of a message alone, each without an end, after which the engine is to dead-letter it.
        notes: keep a note of up to 4,096 characters beside a committed position, as Kafka does.
        rebalances: ``eager`` (members give up everything whenever one joins or leaves) or ``incremental`` (only what
            moves). Without it partitions stay where they are until their member goes.
        revoke_seconds: how long a member may take to give up partitions before it is expired.
        keep_rejected: put rejected messages into the topic's dead letters; otherwise they are gone.

    Example:
        >>> MemoryConsumer("orders", ack="cumulative").capabilities.order_scope
        'partition'
    """

    topic: str
    consumer_group: str | None = attrs.field(default=None, kw_only=True)
    broker: Any = attrs.field(default=None, converter=find_broker, kw_only=True)
    partitions: int | None = attrs.field(default=None, kw_only=True)
    ack: Ack = attrs.field(default="individual", kw_only=True)
    order_scope: OrderScope | None = attrs.field(default=None, kw_only=True)
    window: int | None = attrs.field(default=None, kw_only=True)
    lease_seconds: float | None = attrs.field(default=None, kw_only=True)
    delivery_count: bool = attrs.field(default=True, kw_only=True)
    solo_crashes: int = attrs.field(default=SOLO_CRASHES, kw_only=True)
    notes: bool = attrs.field(default=False, kw_only=True)
    rebalances: Rebalances | None = attrs.field(default=None, kw_only=True)
    revoke_seconds: float = attrs.field(default=10.0, kw_only=True)
    keep_rejected: bool = attrs.field(default=False, kw_only=True)

    @property
    def broker_connections(self) -> int:
        """None."""
        return 0

    @property
    def name(self) -> str:
        """The topic."""
        return self.topic

    @property
    def rules(self) -> Rules:
        """What the group is to go by.

        Raises:
            ConfigError: if the settings disagree.
        """
        return Rules(**{name: getattr(self, name) for name in attrs.fields_dict(Rules)})

    @property
    def capabilities(self) -> Capabilities:
        """What these settings make of the broker."""
        return self.rules.capabilities

    def resolve(self, start: Start) -> MemoryConsumer:
        """Fill in the group, and raise ConfigError on settings that disagree."""
        group = self.consumer_group or start.environ.get("CONSUMER_GROUP") or start.worker
        self.rules.check()
        return attrs.evolve(self, consumer_group=group)

    async def subscribe(self, owner: Owner) -> Subscription:
        """Join the group. What can be assigned at once has been by the time this returns."""
        broker: MemoryBroker = self.broker
        await broker.before("subscribe", self.topic)
        broker.topic(self.topic, self.partitions)
        group = broker.group(self.topic, self.group, self.rules)
        member = Member(broker.new_member_name(self.group), owner)
        group.join(member, broker.clock())
        return MemorySubscription(broker, group, member)

    @property
    def group(self) -> str:
        """The consumer group, also of a source that was not resolved."""
        return self.consumer_group or DEFAULT_GROUP

    def inspect(self) -> Inspector:
        """Return what counts the backlog, exactly."""
        return MemoryInspector(self)

    def positions(self) -> Positions:
        """Return what shows the group's offsets, and moves them while the group has no members."""
        return MemoryPositions(self.broker, self.topic, self.group, self.rules)

    def counterpart(self) -> MemoryProducer:
        """Return a producer for the same topic."""
        return MemoryProducer(self.topic, broker=self.broker)

    def dead_letters(self) -> tuple[MemoryProducer, MemoryConsumer] | None:
        """Return a producer and a consumer of the topic ``<topic>.dlq``; None of one that is called so itself."""
        if self.topic.endswith(DEAD_LETTERS):
            return None
        reader = attrs.evolve(
            self, topic=self.topic + DEAD_LETTERS, partitions=None, consumer_group=DEAD_LETTER_GROUP
        )
        return reader.counterpart(), reader

    def reads(self, sink: Sink) -> bool:
        """Tell whether a sink writes the same topic of the same broker."""
        return isinstance(sink, MemoryProducer) and (sink.topic, sink.broker) == (self.topic, self.broker)


class MemoryInspector(Inspector):
    """Counts what a group has left."""

    def __init__(self, source: MemoryConsumer) -> None:
        self._source = source

    async def backlog(self) -> Backlog:
        """Return the backlog, of which nothing is unknown. To look makes no group: one that is not there has all to do."""
        broker: MemoryBroker = self._source.broker
        return broker.backlog(self._source.topic, self._source.group, self._source.rules)

    async def browse(self) -> AsyncGenerator[Message[Any]]:
        """Yield what waits and what is delivered, in the topic's order."""
        broker: MemoryBroker = self._source.broker
        await anyio.lowlevel.checkpoint()
        for record in broker.unsettled(self._source.topic, self._source.group, self._source.rules):
            yield Message(
                record.value,
                key=record.key,
                headers=record.headers,
                id=record.id,
                timestamp=record.timestamp,
                partition=record.partition,
                position=record.offset,
            )
