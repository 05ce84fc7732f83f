"""Where to begin in a partition: at the committed offset, or where the policy says if there is none or it is gone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pythia_core import SubscriptionLost
from pythia_kafka.client import Client
from pythia_kafka.message import Partition

if TYPE_CHECKING:
    from pythia_kafka.source import KafkaConsumer

log = logging.getLogger("pythia.kafka")


@attrs.frozen
class Beginning:
    """Where a partition begins for us.

    Args:
        partition: which.
        offset: the first offset to read.
        note: the text found beside a committed offset.
        reset: whether nothing was committed.
    """

    partition: Partition
    offset: int
    note: str | None = None
    reset: bool = False


async def begin(
    client: Client, source: KafkaConsumer, generation: int, partitions: Sequence[Partition]
) -> list[Beginning]:
    """Return where to begin in partitions that we were assigned.

    Raises:
        SubscriptionLost: if there is nothing committed and the policy is to fail.
    """
    committed = await client.committed(partitions)
    begun = [
        Beginning(partition, offset, note or None)
        for partition in partitions
        if partition in committed
        for offset, note in [committed[partition]]
    ]
    fresh = [partition for partition in partitions if partition not in committed]
    return begun + (await _begin_fresh(client, source, generation, fresh) if fresh else [])


async def _begin_fresh(
    client: Client, source: KafkaConsumer, generation: int, partitions: Sequence[Partition]
) -> list[Beginning]:
    if source.offset_reset == "fail":
        raise SubscriptionLost(
            f"group {source.consumer_group} has committed nothing of {', '.join(map(str, partitions))}, and "
            "offset_reset is 'fail': commit where to begin, or say 'earliest' or 'latest'"
        )
    if source.offset_reset == "latest":
        partitions_of_new_topics = await _begin_at_the_end(client, source, generation, partitions)
    else:
        partitions_of_new_topics = {}
    starts = await client.bounds(partitions)
    found = []
    for partition in partitions:
        first, end = starts[partition]
        offset = partitions_of_new_topics.get(partition, first)
        log.info(
            "%s: group %s has committed nothing, beginning at %d of %d to %d",
            *(partition, source.consumer_group, offset, first, end),
        )
        found.append(Beginning(partition, offset, reset=True))
    return found


async def _begin_at_the_end(
    client: Client, source: KafkaConsumer, generation: int, partitions: Sequence[Partition]
) -> dict[TopicPartition, int]:
    """Commit the end of every partition of topics that are new to the group, and return it.

    Committed at once, also for those that others were assigned: from then on a partition without a committed offset is
    one that was added later, and is read from its start.
    """
    ends: dict[TopicPartition, int] = {}
    for topic in {partition.topic for partition in partitions}:
        every = [TopicPartition(topic, number) for number in range(client.partitions_of(topic))]
        if not await client.committed(every):
            ends |= {partition: end for partition, (_, end) in (await client.bounds(every)).items()}
    if ends:
        await client.commit(
            {partition: OffsetAndMetadata(end, "") for partition, end in ends.items()}, generation
        )
    return ends


async def beginning_after(client: Client, source: KafkaConsumer, partition: Partition, wanted: int) -> int:
    """Return where to go on in a partition whose wanted offset is out of range, and log what is lost.

    Raises:
        SubscriptionLost: if the policy is to fail.
    """
    first, end = (await client.bounds([partition]))[partition]
    what = f"{partition}: offset {wanted} is not there, only {first} to {end}"
    if source.offset_reset == "fail":
        raise SubscriptionLost(f"{what}, and offset_reset is 'fail'")
    if wanted < first:
        log.error(
            "%s: %d message(s) or less were removed unread, going on at %d", what, first - wanted, first
        )
    else:
        log.error("%s: the topic was made anew or has lost its end, beginning at %d", what, first)
    return first
