"""The source: what a worker's author writes down, ``KafkaConsumer(topic="orders")``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

import attrs

from pythia_core import DEAD_LETTER_GROUP, Capabilities, ConfigError, Owner, Sink, Source, Start, Subscription
from pythia_kafka.options import KafkaOptions

if TYPE_CHECKING:
    from pythia_kafka.inspector import KafkaInspector
    from pythia_kafka.positions import KafkaPositions
    from pythia_kafka.producer import KafkaProducer

DEAD_LETTERS: Final = ".dlq"
REQUEST_MARGIN: Final = (
    5.0  # seconds by which the longest request outlasts a rebalance; Java's client has the same
)
DRAIN_SHARE: Final = 0.5  # of the rebalance timeout; the rest is for noticing the rebalance, and for joining

Strategy = Literal["range", "roundrobin", "sticky"]


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else tuple(names)


@attrs.frozen  # pyright: ignore[reportGeneralTypeIssues]  # what it shares with the sink cannot be frozen
class KafkaConsumer(KafkaOptions, Source):
    """Read topics as a member of a consumer group. Works with Kafka 2.1 to 4.x, by the classic group protocol.

    The group's partitions are shared out among its members, and a message is done when the offset after it is committed:
    when it and all before it in its partition are done. Messages of a key come in order.

    Args:
        topic: the topic.
        topics: several, instead of one.
        pattern: a regular expression that whole names of topics match, instead of names. Dead-letter topics never match.
        consumer_group: who shares the work; the environment's CONSUMER_GROUP or the worker's name if left out.
        partition_assignment_strategy: ``range``, ``roundrobin`` or ``sticky``. All members of a group need the same.
        offset_reset: where to begin in a topic of which the group has committed nothing: ``earliest``, ``latest``, or
            ``fail``. New partitions, and those whose committed offset is no longer there, are read from the first
            offset that is there, or not at all with ``fail``.
        corrupt_records: what to do at a record that cannot be read (a wrong checksum, say): ``fail`` ends the
            subscription, again and again, until somebody looks; ``dead_letter`` reads it three times, then makes a dead
            letter of it that has no body but names its place, and goes on behind it.
        isolation_level: ``read_committed`` leaves out what transactions have not committed.
        group_instance_id: a name for static membership; the number of the process is added to it. A member that leaves
            keeps its partitions until ``session_timeout`` is over: in that time a restart moves nothing, and a scale-in
            leaves its partitions idle.
        session_timeout: seconds without a heartbeat after which the group goes on without us.
        rebalance_timeout: seconds that members have to join anew. Half of it is for letting work run out.
        request_timeout: seconds for any request, at least 5 more than ``rebalance_timeout``; 10 more if left out.
        max_partition_fetch_bytes: of one partition in one answer; a larger record still comes, alone.
        fetch_max_bytes: of one answer.
        bootstrap_servers: see :class:`~pythia_kafka.options.KafkaOptions`, like everything else.

    Example:
        >>> KafkaConsumer("orders", consumer_group="order-processors", username="me", password="hunter2")
        KafkaConsumer(...username='me', password=****, ...topic='orders', ...)
    """

    topic: str | None = None
    topics: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_names)
    pattern: str | None = attrs.field(default=None, kw_only=True)
    consumer_group: str | None = attrs.field(default=None, kw_only=True)
    partition_assignment_strategy: Strategy = attrs.field(default="range", kw_only=True)
    offset_reset: Literal["earliest", "latest", "fail"] = attrs.field(default="earliest", kw_only=True)
    corrupt_records: Literal["fail", "dead_letter"] = attrs.field(default="fail", kw_only=True)
    isolation_level: Literal["read_committed", "read_uncommitted"] = attrs.field(
        default="read_committed", kw_only=True
    )
    group_instance_id: str | None = attrs.field(default=None, kw_only=True)
    session_timeout: float = attrs.field(default=45.0, kw_only=True)
    rebalance_timeout: float = attrs.field(default=60.0, kw_only=True)
    request_timeout: float | None = attrs.field(default=None, kw_only=True)
    max_partition_fetch_bytes: int = attrs.field(default=1 << 20, kw_only=True)
    fetch_max_bytes: int = attrs.field(default=16 << 20, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if sum(map(bool, (self.topic, self.topics, self.pattern))) != 1:
            raise ConfigError("one of topic, topics and pattern says what is read: topic='orders'")
        self._check_choices()
        self._check_times()
        if self.pattern is not None:
            self._check_pattern(self.pattern)

    def _check_choices(self) -> None:
        choices = {
            "partition_assignment_strategy": ("range", "roundrobin", "sticky"),
            "offset_reset": ("earliest", "latest", "fail"),
            "corrupt_records": ("fail", "dead_letter"),
            "isolation_level": ("read_committed", "read_uncommitted"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}"
                )

    def _check_times(self) -> None:
        if self.session_timeout <= 0 or self.rebalance_timeout <= 0:
            raise ConfigError("session_timeout and rebalance_timeout must be more than 0 seconds")
        if self.longest_request < self.rebalance_timeout + REQUEST_MARGIN:
            raise ConfigError(
                f"request_timeout is {self.longest_request:g} s, but joining the group is a request that may take "
                f"rebalance_timeout, {self.rebalance_timeout:g} s: make it at least "
                f"{self.rebalance_timeout + REQUEST_MARGIN:g} s, or lower the other"
            )

    def _check_pattern(self, pattern: str) -> None:
        try:
            re.compile(pattern)
            re.compile(self.whole_pattern or "")
        except re.error as error:
            raise ConfigError(f"pattern is {pattern!r}, which is no regular expression: {error}") from None

    @property
    def longest_request(self) -> float:
        """Seconds for any request."""
        return self.rebalance_timeout + 10.0 if self.request_timeout is None else self.request_timeout

    @property
    def names(self) -> tuple[str, ...]:
        """The topics by name; none where a pattern is given."""
        return (self.topic,) if self.topic else self.topics

    @property
    def whole_pattern(self) -> str | None:
        """The pattern as it is used: for whole names, and never for those of dead-letter topics."""
        return None if self.pattern is None else rf"(?!.*{re.escape(DEAD_LETTERS)}$)(?:{self.pattern})$"

    @property
    def name(self) -> str:
        """The topics, or the pattern."""
        return ",".join(self.names) or f"/{self.pattern}/"

    @property
    def broker_connections(self) -> int:
        """Three clients, each of which connects to every broker it needs: one reads, two count the backlog."""
        return 3

    @property
    def group(self) -> str | None:
        """The consumer group."""
        return self.consumer_group

    @property
    def capabilities(self) -> Capabilities:
        """A committed offset for each partition, with a note beside it; partitions come and go."""
        return Capabilities(
            ack="cumulative",
            order_scope="partition",
            notes=True,
            rebalances=True,
            revoke_seconds=self.rebalance_timeout * DRAIN_SHARE,
        )

    def resolve(self, start: Start) -> KafkaConsumer:
        """Fill in servers, group and a static member's number; see :class:`pythia_core.Source`."""
        login = self.login(start.environ)
        member = self.group_instance_id
        return attrs.evolve(
            self,
            bootstrap_servers=str(login),
            consumer_group=self.consumer_group or start.environ.get("CONSUMER_GROUP") or start.worker,
            group_instance_id=None if member is None else f"{member}-{start.slot}",
        )

    async def subscribe(self, owner: Owner) -> Subscription:
        """Connect and begin to join the group; partitions come when it has let us in."""
        from pythia_kafka.subscription import KafkaSubscription

        self._required_group()
        subscription = KafkaSubscription(self, owner)
        try:
            await subscription.open()
        except BaseException:
            await subscription.aclose()
            raise
        return subscription

    def _required_group(self) -> str:
        if not self.consumer_group:
            raise ConfigError(f"no consumer_group for {self.name}: name one, or resolve the source")
        return self.consumer_group

    def inspect(self) -> KafkaInspector:
        """Return what counts the backlog of the group."""
        from pythia_kafka.inspector import KafkaInspector

        return KafkaInspector(self)

    def positions(self) -> KafkaPositions:
        """Return what shows the group's committed offsets, and moves them while it has no members."""
        from pythia_kafka.positions import KafkaPositions

        self._required_group()
        return KafkaPositions(self)

    def counterpart(self) -> KafkaProducer:
        """Return a producer for the same topic."""
        if len(self.names) != 1:
            raise ConfigError(f"{self.name} is not one topic, so there is no producer for it: name one")
        return self._producer(self.names[0])

    def _producer(self, topic: str, *, create: bool = False) -> KafkaProducer:
        from pythia_kafka.producer import KafkaProducer

        options = {field.name: getattr(self, field.name) for field in attrs.fields(KafkaOptions)}
        return KafkaProducer(topic, create_topic=create, **options)

    def dead_letters(self) -> tuple[KafkaProducer, KafkaConsumer] | None:
        """Return a producer for the topic ``<topic>.dlq``, which is made if it is not there, and a consumer of it.

        Where several topics are read it is ``<group>.dlq``. A topic that is called so itself has none.
        """
        if any(name.endswith(DEAD_LETTERS) for name in self.names):
            return None
        topic = (self.names[0] if len(self.names) == 1 else self._required_group()) + DEAD_LETTERS
        reader = attrs.evolve(
            self,
            topic=topic,
            topics=(),
            pattern=None,
            consumer_group=DEAD_LETTER_GROUP,
            offset_reset="earliest",
            group_instance_id=None,
        )
        return self._producer(topic, create=True), reader

    def reads(self, sink: Sink) -> bool:
        """Tell whether a sink writes a topic that is read, or that the pattern matches, of a cluster of the same address."""
        from pythia_kafka.producer import KafkaProducer

        if not isinstance(sink, KafkaProducer) or sink.login().servers != self.login().servers:
            return False
        if self.whole_pattern is None:
            return sink.topic in self.names
        return re.match(self.whole_pattern, sink.topic) is not None
