"""The live consumer: what the group hands us and takes back, records that have come in, and commits.

Invariants:

- Q1. Only what was handed over under the present assignment of a partition is committed, never less than before, and
  the broker checks the generation that the assignment belongs to.
- Q2. A fetch never waits longer than it is told to, whatever the group and the brokers do.
- Q3. Between the taking of records and their return nothing else runs; what is taken and cannot be handed over is taken
  again, since the position is set back before the partition is handed out.
- Q4. A partition's engine hears of it only between assigned and revoked or lost. A negative generation means lost.
- Q5. What cannot mend by itself, and silence that lasts too long, is raised by the next fetch.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pythia_core import (
    Assignment,
    Chunk,
    Owner,
    Partition,
    Refusals,
    Refused,
    Settlement,
    Subscription,
    SubscriptionLost,
)
from pythia_kafka.client import Client, GenerationOver
from pythia_kafka.complaints import explained
from pythia_kafka.message import Partition as KafkaPartition
from pythia_kafka.strategies import assignor
from pythia_kafka.watch import Watch

if TYPE_CHECKING:
    from pythia_kafka.source import KafkaConsumer

log = logging.getLogger("pythia.kafka")

START_SECONDS: Final = 20.0
COMMIT_SECONDS: Final = 10.0
STOPPED_WAIT: Final = 0.05  # seconds
OUTAGE_SHARE: Final = 3  # the part of the session timeout after which silence is an outage
MEAN_OF: Final = 16  # messages looked at to guess a size

_assignments = itertools.count(1)


class Held:
    """A partition that is ours.

    Args:
        partition: which.
        position: the next offset to hand over, which is the committed one, or where it begins for us if there is none.
        note: the text beside the committed offset.
        reset: whether nobody has committed that offset.
    """

    __slots__ = ("assignment", "committed", "failures", "handed", "partition")

    def __init__(
        self, partition: KafkaPartition, position: int, note: str | None = None, *, reset: bool = False
    ) -> None:
        self.partition = partition
        self.handed = position
        self.committed = position
        self.failures = 0  # to read what comes next
        self.assignment = Assignment(next(_assignments), position, note or None, reset)


class KafkaSubscription(Subscription):
    """Reads partitions as a member of a group.

    Args:
        source: the resolved source.
        owner: who is told about partitions.
    """

    def __init__(self, source: KafkaConsumer, owner: Owner) -> None:
        self._source = source
        self._owner = owner
        self._client = Client(source.login({}), _options(source))
        self._watch = Watch(self._client, source.names, source.session_timeout / OUTAGE_SHARE)
        self._held: dict[Partition, Held] = {}
        self._generation = -1
        self._draining: anyio.CancelScope | None = None
        self._failure: Exception | None = None
        self._behind: set[Partition] = set()  # those of which the broker had more than was handed over
        self._deferred: KafkaPartition | None = None  # to be reset before anything else is taken
        self._mean_size = 1.0
        self._stopped = False
        self._closed = False

    async def open(self) -> None:
        """Connect, and begin to join the group.

        Raises:
            SubscriptionLost: if no broker can be reached, or a topic is not there.
        """
        source = self._source
        try:
            with anyio.fail_after(START_SECONDS):
                await self._client.start()
                missing = await self._client.missing(source.names)
        except (KafkaError, TimeoutError) as error:
            text = explained(error, source.login({}), START_SECONDS)
            raise SubscriptionLost(f"Kafka at {source.bootstrap_servers}: {text}") from None
        if missing:
            raise SubscriptionLost(
                f"Kafka at {source.bootstrap_servers} has no topic {', '.join(missing)}, or we may not see it"
            )
        self._client.subscribe(source.names, source.whole_pattern, Listener(self))

    # -- the group -----------------------------------------------------------------------------------------------

    async def take_over(self, partitions: set[TopicPartition]) -> None:
        """Find out where to begin, and hand partitions to the owner."""
        if self._closed:
            return
        self._generation = self._client.generation
        mine = [KafkaPartition(*partition) for partition in sorted(partitions)]
        try:
            with anyio.fail_after(self._source.session_timeout / OUTAGE_SHARE):
                held = await self._begin(mine)
        except GenerationOver:  # while we asked where to begin; another assignment follows
            return
        except (TimeoutError, KafkaError, SubscriptionLost) as error:
            self._fail(error)
            return
        for each in held:
            self._client.seek(each.partition, each.handed)
        self._held = {each.partition: each for each in held}
        self._behind.clear()
        self._watch.begin(self._held)
        log.info(
            "group %s, generation %d: %s",
            self._source.consumer_group,
            self._generation,
            ", ".join(map(str, self._held)) or "no partition for us",
        )
        self._owner.assigned({each.partition: each.assignment for each in held})

    async def _begin(self, partitions: Sequence[KafkaPartition]) -> list[Held]:
        from pythia_kafka.beginning import begin

        starts = await begin(self._client, self._source, self._generation, partitions)
        return [Held(start.partition, start.offset, start.note, reset=start.reset) for start in starts]

    async def give_up(self) -> None:
        """Let the owner finish what it has begun of all partitions, and forget them."""
        partitions = list(self._held)
        if not partitions or self._closed:
            return
        if self._client.generation != self._generation or self._generation < 0:
            self._owner.lost(partitions)
        else:
            budget = self._source.capabilities.revoke_seconds or 0.0
            deadline = anyio.current_time() + budget
            with anyio.CancelScope(deadline=deadline + 1.0) as self._draining:
                await self._owner.revoked(partitions, deadline)
            self._draining = None
        self._held = {}

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            text = str(error) or "the brokers did not answer in time"
            self._failure = SubscriptionLost(f"{self._source.name} as {self._source.consumer_group}: {text}")
        self._client.wake()

    # -- reading -------------------------------------------------------------------------------------------------

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return the next messages; see :meth:`pythia_core.Subscription.fetch`."""
        # Work on what came before goes first: bodies are then still in the processor's cache, and few objects live.
        await anyio.lowlevel.checkpoint()
        self._raise()
        if self._stopped or limit <= 0 or not self._askable(room):
            await anyio.sleep(min(wait, STOPPED_WAIT) if self._stopped else wait)
            return ()
        limit = min(limit, max(int(max_bytes / self._mean_size), 1))
        if chunks := await self._take(room, limit):
            return chunks
        try:
            await self._client.wait(wait)
        except KafkaError as error:
            raise SubscriptionLost(f"{self._source.name}: {error}") from None
        return await self._take(room, limit)

    def _askable(self, room: Mapping[Partition, int]) -> bool:
        return not self._client.rebalancing and any(partition in self._held for partition in room)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise SubscriptionLost("the subscription is closed")
        try:
            self._client.raise_errors()
            self._watch.look()
        except KafkaError as error:
            raise SubscriptionLost(f"{self._source.name} as {self._source.consumer_group}: {error}") from None

    async def _take(self, room: Mapping[Partition, int], limit: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        if self._deferred is not None:
            await self._reset(self._deferred)
        if self._stopped or self._client.rebalancing:
            return chunks
        for partition in self._in_turn(room):
            held = self._held[partition]
            try:
                messages = self._client.take(held.partition, min(room[partition], limit))
            except OffsetOutOfRangeError:
                self._deferred = held.partition  # nothing is awaited while we have records in our hands
                continue
            except Exception as error:  # of which the parser has many
                passed = self._unreadable(held, error)
                chunks += passed
                limit -= len(passed)
                if self._failure is not None or limit <= 0:
                    break
                continue
            position = self._client.position(held.partition)
            if position is None or position == held.handed:
                continue
            held.handed, held.failures = position, 0
            (self._behind.add if self._client.has_more(held.partition) else self._behind.discard)(partition)
            chunks.append(Chunk(partition, messages, position))
            limit -= len(messages)
            if limit <= 0:
                break
        self._client.ask_ahead()
        self._guess_size(chunks)
        return chunks

    def _unreadable(self, held: Held, error: Exception) -> list[Chunk]:
        """Have it read again, and then pass it over as a dead letter; or end, where that is not wanted."""
        from pythia_kafka.corrupt import READS, CorruptMessage, is_corrupt

        place = f"{held.partition} at offset {held.handed} or behind"
        if not is_corrupt(error):
            self._fail(SubscriptionLost(f"{place}: {error}"))
            return []
        if self._source.corrupt_records == "fail":
            self._fail(SubscriptionLost(f"{place}: {error}; corrupt_records='dead_letter' goes on behind it"))
            return []
        held.failures += 1
        if held.failures < READS:
            return []
        log.error("%s: %s; it is passed over, as a dead letter", place, error)
        message = CorruptMessage(held.partition, held.handed, error)
        held.failures = 0
        held.handed += 1
        self._client.seek(held.partition, held.handed)
        return [Chunk(held.partition, [message], held.handed)]

    def _in_turn(self, room: Mapping[Partition, int]) -> list[Partition]:
        """Return the partitions that have something for us, in the order of the room, which is fair to all."""
        ready = set(self._client.ready())
        return [p for p in room if p in ready and p in self._held and room[p] > 0]

    def _guess_size(self, chunks: Sequence[Chunk]) -> None:
        if chunks and (messages := chunks[-1].messages):
            sample = messages[:: len(messages) // MEAN_OF + 1]
            self._mean_size = sum(message.size for message in sample) / len(sample) or 1.0

    async def _reset(self, partition: KafkaPartition) -> None:
        """Go on where something is left: what we were to read next is not there any more, or never was."""
        from pythia_kafka.beginning import beginning_after

        self._deferred = None
        held = self._held.get(partition)
        if held is None:
            return
        try:
            with anyio.fail_after(COMMIT_SECONDS):
                offset = await beginning_after(self._client, self._source, partition, held.handed)
        except (TimeoutError, KafkaError, SubscriptionLost) as error:
            self._fail(error)
            return
        if self._held.get(partition) is not held or self._client.rebalancing:
            return
        self._held[partition] = new = Held(partition, offset, reset=True)
        self._client.seek(partition, offset)
        self._owner.lost([partition])
        self._owner.assigned({partition: new.assignment})

    @property
    def more_is_coming(self) -> bool:
        """See :attr:`pythia_core.Subscription.more_is_coming`."""
        return bool(self._behind)

    # -- settling and the end ------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Commit; see :meth:`pythia_core.Subscription.settle`."""
        mine = [one for one in settlements if self._is_mine(one)]
        refused = [Refused(one.partition, one.assignment) for one in settlements if not self._is_mine(one)]
        offsets: dict[TopicPartition, OffsetAndMetadata] = {
            self._held[one.partition].partition: offset for one in mine if (offset := self._offset(one))
        }
        if not offsets:
            return refused
        try:
            with anyio.fail_after(COMMIT_SECONDS):
                await self._client.commit(offsets, self._generation)
        except GenerationOver:
            return [*refused, *(Refused(one.partition, one.assignment) for one in mine)]
        except TimeoutError:
            self._client.suspect_coordinator()
            raise SubscriptionLost(
                f"{self._source.name}: no commit within {COMMIT_SECONDS:g} s, which may have been made all the same"
            ) from None
        for one in mine:
            held = self._held.get(one.partition)
            if one.through is not None and held is not None and held.assignment.id == one.assignment:
                held.committed = one.through
        return refused

    def _is_mine(self, settlement: Settlement) -> bool:
        held = self._held.get(settlement.partition)
        return held is not None and held.assignment.id == settlement.assignment

    def _offset(self, settlement: Settlement) -> OffsetAndMetadata | None:
        held = self._held[settlement.partition]
        through = held.committed if settlement.through is None else settlement.through
        if through < held.committed or (settlement.through is None and settlement.note is None):
            return None
        return OffsetAndMetadata(through, settlement.note or "")

    async def stop_fetching(self) -> None:
        """Hand over nothing more, and stay a member."""
        self._stopped = True
        self._client.wake()

    async def aclose(self) -> None:
        """Leave the group and disconnect."""
        if self._closed:
            return
        self._closed = self._stopped = True
        self._client.wake()
        if self._draining is not None:  # the group waits in our listener, and the client's end for that
            self._draining.cancel()
        await self._client.aclose()


class Listener(ConsumerRebalanceListener):
    """Hears from the client what the group takes and gives; what it raises is kept for the next fetch."""

    def __init__(self, subscription: KafkaSubscription) -> None:
        self._subscription = subscription

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]  # it may be a coroutine
        self, revoked: set[TopicPartition]
    ) -> None:
        """Let go of everything: this protocol takes back all of it, and gives some of it again."""
        try:
            await self._subscription.give_up()
        except Exception as error:
            log.exception("letting go of partitions failed")
            self._subscription._fail(error)

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: set[TopicPartition]
    ) -> None:
        """Take over what is ours now."""
        try:
            await self._subscription.take_over(assigned)
        except Exception as error:
            log.exception("taking over partitions failed")
            self._subscription._fail(error)


def _options(source: KafkaConsumer) -> dict[str, Any]:
    milliseconds = {
        "session_timeout_ms": source.session_timeout,
        "heartbeat_interval_ms": min(3.0, source.session_timeout / 3),
        "rebalance_timeout_ms": source.rebalance_timeout,
        "request_timeout_ms": source.longest_request,
        "metadata_max_age_ms": 30.0,  # in which a new partition is noticed
    }
    return {
        **{name: int(seconds * 1000) for name, seconds in milliseconds.items()},
        "group_id": source.consumer_group,
        "group_instance_id": source.group_instance_id,
        "isolation_level": source.isolation_level,
        "partition_assignment_strategy": (assignor(source.partition_assignment_strategy),),
        "max_partition_fetch_bytes": source.max_partition_fetch_bytes,
        "fetch_max_bytes": source.fetch_max_bytes,
    }
