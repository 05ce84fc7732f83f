"""The source: what a worker's author writes down, ``RedisStreamsConsumer(stream="events")``."""

from __future__ import annotations

import itertools
import re
import secrets
import socket
from typing import TYPE_CHECKING, Literal

import attrs

from pythia_core import (
    DEAD_LETTER_GROUP,
    Capabilities,
    ConfigError,
    Owner,
    Secret,
    Source,
    Start,
    Subscription,
)
from pythia_redis.options import RedisOptions

if TYPE_CHECKING:
    from pythia_redis.group import Group
    from pythia_redis.inspector import RedisInspector
    from pythia_redis.positions import RedisPositions
    from pythia_redis.producer import RedisStreamsProducer

DEAD_LETTERS = ":dlq"

_members = itertools.count(1)


@attrs.frozen  # pyright: ignore[reportGeneralTypeIssues]  # what it shares with the sink cannot be frozen
class RedisStreamsConsumer(RedisOptions, Source):
    """Read a Redis stream as one consumer of a group. Needs Redis 6.2 or Valkey, and no more than one key.

    Each entry goes to one consumer of the group and is acknowledged by itself. One that is not settled or renewed for
    ``lease_seconds`` is taken over by another consumer. Whatever Redis confirmed is delivered at least once, relative
    to the primary that survives: replication is asynchronous, and a failover may lose the last entries and settlements.

    Args:
        stream: the key of the stream.
        consumer_group: who shares the work; the environment's CONSUMER_GROUP or the worker's name if left out.
        consumer_name: how ``XINFO CONSUMERS`` calls this worker; its class's name if left out. Host, number and start
            of the process are added, since two processes of one name would take each other's work for their own.
        lease_seconds: how long an entry stays ours without being renewed, which happens at a third of it. The same for
            all consumers of a group.
        start_from: what a *new* group reads of the stream: ``earliest`` or ``latest``.
        delete_settled: remove entries once they are done, as a queue does; otherwise they stay until somebody trims
            the stream (see :meth:`~pythia_redis.RedisStreamsAdmin.trim_settled`). Before Redis 8.2 entries stay where
            other groups read the stream too.
        url: see :class:`~pythia_redis.options.RedisOptions`, like everything else.

    Example:
        >>> RedisStreamsConsumer("events", url="redis://:hunter2@localhost", consumer_group="processors")
        RedisStreamsConsumer(url='redis://:****@localhost', ...stream='events', consumer_group='processors', ...)
    """

    stream: str
    consumer_group: str | None = attrs.field(default=None, kw_only=True)
    consumer_name: str | None = attrs.field(default=None, kw_only=True)
    lease_seconds: float = attrs.field(default=60.0, kw_only=True)
    start_from: Literal["earliest", "latest"] = attrs.field(default="earliest", kw_only=True)
    delete_settled: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not self.stream:
            raise ConfigError("stream is empty; it is the key of a Redis stream, such as 'events'")
        if self.lease_seconds <= 0:
            raise ConfigError(
                f"lease_seconds is {self.lease_seconds:g}; it must be more than 0, and 60 is usual"
            )
        if self.start_from not in ("earliest", "latest"):
            raise ConfigError(f"start_from is {self.start_from!r}; it must be 'earliest' or 'latest'")

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream

    @property
    def broker_connections(self) -> int:
        """Three: one reads, one settles, one counts the backlog."""
        return 3

    @property
    def group(self) -> str | None:
        """The consumer group."""
        return self.consumer_group

    @property
    def capabilities(self) -> Capabilities:
        """Each entry by itself, under a lease, with a count of its deliveries."""
        return Capabilities(
            ack="individual", order_scope="consumer", lease_seconds=self.lease_seconds, delivery_count=True
        )

    def resolve(self, start: Start) -> RedisStreamsConsumer:
        """Fill in server, group and a consumer's name that nobody else has; see :class:`pythia_core.Source`."""
        self.address(start.environ)
        url = self.url or start.environ.get("REDIS_URL")
        return attrs.evolve(
            self,
            url=Secret(url) if url else None,
            consumer_group=self.consumer_group or start.environ.get("CONSUMER_GROUP") or start.worker,
            consumer_name=name_member(self.consumer_name or start.worker, start.slot, start.nonce),
        )

    async def subscribe(self, owner: Owner) -> Subscription:
        """Connect and make the group if there is none."""
        from pythia_redis.subscription import RedisSubscription

        subscription = RedisSubscription(
            self.address({}), self._as_group(), start=self.start_from, delete_settled=self.delete_settled
        )
        try:
            await subscription.open(owner)
        except BaseException:
            await subscription.aclose()
            raise
        return subscription

    def _as_group(self) -> Group:
        from pythia_redis.group import Group

        return Group(
            stream=self.stream,
            name=self._required_group(),
            consumer=self.consumer_name or name_member("worker", 0, ""),
            lease_ms=max(int(self.lease_seconds * 1000), 1),
        )

    def _required_group(self) -> str:
        if not self.consumer_group:
            raise ConfigError(
                f"no consumer_group for the stream {self.stream!r}: name one, or resolve the source"
            )
        return self.consumer_group

    def inspect(self) -> RedisInspector:
        """Return what counts the backlog of the group."""
        from pythia_redis.inspector import RedisInspector

        return RedisInspector(self.address({}), self.stream, self._required_group(), self.start_from)

    def positions(self) -> RedisPositions:
        """Return what shows the group's last delivered id, and moves it while nobody reads."""
        from pythia_redis.positions import RedisPositions

        return RedisPositions(
            self.address({}),
            self._as_group(),
            start_from=self.start_from,
            delete_settled=self.delete_settled,
        )

    def counterpart(self) -> RedisStreamsProducer:
        """Return a producer for the same stream."""
        from pythia_redis.producer import RedisStreamsProducer

        options = {field.name: getattr(self, field.name) for field in attrs.fields(RedisOptions)}
        return RedisStreamsProducer(self.stream, **options)

    def dead_letters(self) -> tuple[RedisStreamsProducer, RedisStreamsConsumer] | None:
        """Return a producer for the stream ``<stream>:dlq``, and a consumer of it that removes what it has settled.

        A stream that is called so itself has none.
        """
        if self.stream.endswith(DEAD_LETTERS):
            return None
        reader = attrs.evolve(
            self,
            stream=self.stream + DEAD_LETTERS,
            consumer_group=DEAD_LETTER_GROUP,
            consumer_name=None,
            start_from="earliest",
            delete_settled=True,
        )
        return reader.counterpart(), reader


def name_member(name: str, slot: int, nonce: str) -> str:
    """Return a consumer's name that no other consumer has: not in this process, not in another, not after a restart."""
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())
    unique = re.sub(r"[^0-9A-Za-z]", "", nonce) or secrets.token_hex(4)
    return f"{name}:{host}:{slot}:{unique}x{next(_members)}"
