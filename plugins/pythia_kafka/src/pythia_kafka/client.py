"""aiokafka's consumer, and the few of its private parts that we cannot do without: all of them are named here.

Those of its parser are named by :mod:`~pythia_kafka.unpacking` and :mod:`~pythia_kafka.sent`. The public methods wait without a bound (``getmany`` for as long as a rebalance lasts, ``commit`` for ever while no broker
answers), commit under whatever generation is current, and hide the text beside a committed offset. What is used instead
is pinned by ``aiokafka>=0.14,<0.15`` and held by the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import KafkaError, OffsetMetadataTooLargeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pythia_kafka.connecting import client_options, close, confine
from pythia_kafka.message import KafkaMessage, Partition
from pythia_kafka.options import Login
from pythia_kafka.sent import Sent
from pythia_kafka.unpacking import Unpacked

if TYPE_CHECKING:
    from aiokafka.abc import ConsumerRebalanceListener

LEAVE_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 1.0
NEVER: Final = 10**15  # milliseconds
SOON: Final = 0.01  # seconds without news after which it is looked whether anybody is asked for some


class GenerationOver(Exception):
    """Nothing was committed: the group has moved on without us."""


class Client:
    """A consumer whose calls never wait for longer than they are told to.

    Args:
        login: the cluster.
        options: those of :class:`aiokafka.AIOKafkaConsumer` besides.
    """

    def __init__(self, login: Login, options: Mapping[str, Any]) -> None:
        self._consumer: Any = AIOKafkaConsumer(  # Any: what it declares is None until it has started
            **client_options(login),
            **options,
            enable_auto_commit=False,  # it commits what was delivered, not what is done, and a stop waits for it
            auto_offset_reset="none",  # every reset is ours, so that it is logged
            max_poll_interval_ms=NEVER,  # ours is the watchdog: theirs counts calls that we do not make
        )
        confine(self._consumer._client, login)
        self._reads_all = options["isolation_level"] == "read_uncommitted"
        self._drained: dict[TopicPartition, int | None] = {}  # what is known to have more, and who has it
        self._ahead: set[int | None] = set()  # who is asked although some of what they sent is not taken
        self._waiter: asyncio.Future[None] | None = None
        self._sent = Sent(self._consumer)

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, without a subscription: with one this would wait for an assignment without a bound."""
        await self._consumer.start()

    def subscribe(
        self, topics: Collection[str], pattern: str | None, listener: ConsumerRebalanceListener
    ) -> None:
        """Begin to join the group."""
        self._consumer.subscribe(topics=tuple(topics), pattern=pattern, listener=listener)

    async def missing(self, topics: Collection[str]) -> list[str]:
        """Return those of the topics that are not there; a broker that makes topics when asked has made them now."""
        client = self._consumer._client
        if topics:
            await client.set_topics(tuple(topics))
        return [topic for topic in topics if self.partitions_of(topic) == 0]

    def partitions_of(self, topic: str) -> int:
        """Return how many partitions a topic has by the latest metadata, 0 if it is not there."""
        return len(self._consumer._client.cluster.partitions_for_topic(topic) or ())

    async def aclose(self) -> None:
        """Leave the group and disconnect. What waits for a broker that is gone is cut short, and nothing stays behind."""
        await close(self._consumer.stop, seconds=LEAVE_SECONDS)
        # A stop that was cut short leaves tasks behind, of which one would keep our membership for ever.
        coordinator, fetcher = self._consumer._coordinator, self._consumer._fetcher
        if coordinator is not None:
            tasks = (
                coordinator._coordination_task,
                coordinator._heartbeat_task,
                coordinator._commit_refresh_task,
            )
            running = [task for task in tasks if task is not None and not task.done()]
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=CLOSE_SECONDS)
            await close(coordinator._maybe_leave_group, fetcher.close, seconds=CLOSE_SECONDS)
        await close(self._consumer._client.close, seconds=CLOSE_SECONDS)

    # -- the group -----------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The generation of our membership; negative once the group has put us out."""
        return int(self._consumer._coordinator.generation)

    @property
    def knows_coordinator(self) -> bool:
        """Whether a broker coordinates the group, as far as we know."""
        return self._consumer._coordinator.coordinator_id is not None

    @property
    def rebalancing(self) -> bool:
        """Whether what we were assigned is being taken back."""
        return bool(self._consumer._subscription.reassignment_in_progress)

    def raise_errors(self) -> None:
        """Raise what the tasks in the background have stored for us.

        Raises:
            KafkaError: the group, or a task, cannot go on.
        """
        self._consumer._coordinator.check_errors()
        fetching = self._consumer._fetcher.error_future
        if fetching.done() and not fetching.cancelled():
            fetching.result()

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return the committed offsets, and the text beside them, of those partitions that have one."""
        found: dict[TopicPartition, OffsetAndMetadata]
        found = await self._consumer._coordinator.fetch_committed_offsets(list(partitions))
        return found

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], generation: int) -> None:
        """Commit offsets as a member of a generation, which the broker checks.

        The public ``commit`` tries again by itself under whatever generation is current by then, so that an old offset
        could be committed under a new assignment.

        Raises:
            GenerationOver: if the group has moved on; nothing was committed.
            KafkaError: if the broker refused, or could not be asked.
        """
        coordinator = self._consumer._coordinator
        await coordinator.ensure_coordinator_known()
        # From here to the making of the request nothing else runs, so it carries the generation that was compared.
        if generation < 0 or coordinator.generation != generation:
            raise GenerationOver
        assignment = self._consumer._subscription.subscription.assignment
        try:
            await coordinator._do_commit_offsets(assignment, offsets)
        except OffsetMetadataTooLargeError:
            bare = {partition: OffsetAndMetadata(offset, "") for partition, (offset, _) in offsets.items()}
            if bare == offsets or coordinator.generation != generation:
                raise
            await coordinator._do_commit_offsets(assignment, bare)
        except KafkaError:
            if coordinator.generation != generation:  # it was refused as that of a stranger
                raise GenerationOver from None
            raise

    def suspect_coordinator(self) -> None:
        """Look for the group's coordinator anew: the one we know does not answer."""
        self._consumer._coordinator.coordinator_dead()

    # -- reading -------------------------------------------------------------------------------------------------

    def ready(self) -> list[TopicPartition]:
        """Return the partitions of which records, or an error, have come in."""
        return list(self._consumer._fetcher._records)

    def take(self, partition: Partition, count: int) -> list[KafkaMessage]:
        """Return messages of one partition that have come in. It does not wait, so that it cannot be cancelled.

        Raises:
            KafkaError: what the broker answered for this partition, or what is wrong with the records.
        """
        answer = self._consumer._fetcher._records.get(partition)
        if isinstance(answer, FetchError):
            self._drop(partition)
            answer.check_raise()
        if not isinstance(answer, FetchResult):
            return []
        if not isinstance(answer._partition_records, Unpacked):
            answer._partition_records = Unpacked(
                partition, answer._partition_records, self._sent.take(partition)
            )
            self._drained.pop(partition, None)
        records = answer._partition_records
        if not answer.check_assignment(partition):  # since it came the position was set anew
            self._drop(partition)
            return []
        try:
            found = records.take(count)
            answer._update_position()
        finally:
            if records.over:
                self._drop(partition)
        return found

    def _drop(self, partition: Partition) -> None:
        """Let the broker be asked for more of a partition."""
        fetcher = self._consumer._fetcher
        del fetcher._records[partition]
        node = fetcher._select_read_replica(partition)
        if self.has_more(partition):
            self._drained[partition] = node
        else:
            self._drained.pop(partition, None)
        if node not in fetcher._in_flight:  # else it is asked as soon as it has answered
            fetcher._notify(fetcher._wait_consume_future)

    def ask_ahead(self) -> None:
        """Let brokers be asked for more of what is drained while other partitions of theirs wait to be taken.

        aiokafka waits until all of a broker's partitions are drained, or for 0.1 s, since a request that finds nothing
        occupies the broker's only turn for half a second. One for a partition that is known to have more does not.
        """
        fetcher = self._consumer._fetcher
        free = self._ahead.union(self._drained.values()) - fetcher._in_flight - {None, -1}
        if not free:
            return
        wanting = {node for node in map(self._wanting, self._drained) if node in free}
        for partition, answer in fetcher._records.items():
            if isinstance(answer, FetchResult) and (node := fetcher._select_read_replica(partition)) in free:
                answer._backoff = 0.0 if node in wanting else fetcher._prefetch_backoff
        self._ahead = (self._ahead - free) | wanting
        if wanting:
            fetcher._notify(fetcher._wait_consume_future)

    def _wanting(self, partition: TopicPartition) -> int | None:
        """Return whom to ask for more of a drained partition, or None if there is no need."""
        if partition in self._consumer._fetcher._records or not self.has_more(partition):
            return None
        return self._drained[partition]

    def position(self, partition: TopicPartition) -> int | None:
        """Return the offset after all that was taken, markers and gaps included; None while there is none."""
        state = self._state(partition)
        return None if state is None or not state.has_valid_position else int(state.position)

    def has_more(self, partition: TopicPartition) -> bool:
        """Return whether the broker had more than was taken when it last answered."""
        state = self._state(partition)
        if state is None or not state.has_valid_position:
            return False
        end = state.highwater if self._reads_all else state.lso
        return end is not None and end > state.position

    def heard(self, partition: TopicPartition) -> int | None:
        """Return when the broker last answered for a partition, in its own units; only a change of it says something."""
        state = self._state(partition)
        return None if state is None else state.timestamp

    def _state(self, partition: TopicPartition) -> Any:
        assignment = self._consumer._subscription.subscription.assignment
        return None if assignment is None else assignment.state_value(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on reading at an offset."""
        if self.position(partition) != offset:
            self._consumer.seek(partition, offset)

    async def wait(self, seconds: float) -> None:
        """Return when something has come in, or :meth:`wake` was called, or the time is over.

        aiokafka asks nobody for up to 0.2 s if a request ends in the same turn of the loop in which something else has
        its task look around: it still takes that broker for occupied.

        Raises:
            KafkaError: if the group cannot go on.
        """
        fetcher = self._consumer._fetcher
        waiter = self._waiter = fetcher._create_fetch_waiter()
        try:
            await asyncio.wait([waiter], timeout=min(seconds, SOON))
            if not waiter.done() and seconds > SOON:
                if not fetcher._in_flight:
                    fetcher._notify(fetcher._wait_consume_future)
                await asyncio.wait([waiter], timeout=seconds - SOON)
            if waiter.done():
                waiter.result()
        finally:
            self._waiter = None
            waiter.cancel()

    def wake(self) -> None:
        """End a :meth:`wait` that is under way."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return the first offset that is there, and the one after the last, of each partition."""
        wanted = list(partitions)
        starts = await self._consumer.beginning_offsets(wanted)
        ends = await self._consumer.end_offsets(wanted)
        return {partition: (starts[partition], ends[partition]) for partition in wanted}
