"""Topics of a cluster: whether they are there, and making and removing them. One connection, made when first asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import anyio
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import (
    KafkaConnectionError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pythia_core import PythiaError
from pythia_kafka.complaints import explained
from pythia_kafka.connecting import client_options, close, confine
from pythia_kafka.options import Login

SECONDS: Final = 20.0
CLOSE_SECONDS: Final = 2.0
SEEN_SECONDS: Final = 5.0


class NotThere(PythiaError):
    """Kafka knows no topic or group of this name, or we may not see it."""


class Topics:
    """Asks a cluster about topics and groups.

    Args:
        login: the cluster.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._client: Any = None
        self._starting = anyio.Lock()

    async def client(self) -> Any:
        """Return the client, connected."""
        async with self._starting:
            if self._client is None:
                client: Any = AIOKafkaAdminClient(
                    **client_options(self._login), request_timeout_ms=int(SECONDS * 1000)
                )
                confine(client._client, self._login)
                try:
                    await client.start()
                except BaseException as error:
                    await close(client.close, seconds=CLOSE_SECONDS)
                    if isinstance(error, KafkaConnectionError):
                        text = explained(error, self._login, SECONDS)
                        raise KafkaConnectionError(f"Kafka at {self._login}: {text}") from None
                    raise
                self._client = client
            return self._client

    async def describe(self, names: Collection[str] | None) -> dict[str, int]:
        """Return how many partitions each topic has that is there; of all topics if none is named."""
        found = await (await self.client()).describe_topics(None if names is None else list(names))
        return {
            topic["topic"]: len(topic["partitions"])
            for topic in found
            if not topic["error_code"] and not topic.get("is_internal")
        }

    async def missing(self, names: Collection[str]) -> list[str]:
        """Return those that are not there."""
        # All are asked for, since brokers may make a topic that is asked for by name.
        there = await self.describe(None)
        return [name for name in names if name not in there]

    async def create(
        self, name: str, *, partitions: int = -1, replicas: int = -1, config: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic and wait until it is seen; -1 is the broker's default. One that is there is left as it is."""
        topic = NewTopic(name, 1, 1, topic_configs=dict(config or {}))
        topic.num_partitions, topic.replication_factor = (
            partitions,
            replicas,
        )  # which refuses -1 when it is made
        answer = await (await self.client()).create_topics([topic])
        _raise(answer.topic_errors, but=TopicAlreadyExistsError)
        with anyio.move_on_after(SEEN_SECONDS):  # brokers hear of it one after the other
            while await self.missing([name]):  # noqa: ASYNC110 - they are asked, they do not tell
                await anyio.sleep(0.05)

    async def delete(self, name: str) -> None:
        """Remove a topic and all that is in it."""
        answer = await (await self.client()).delete_topics([name])
        _raise(answer.topic_error_codes)

    async def add_partitions(self, name: str, total: int) -> None:
        """Give a topic so many partitions in all."""
        await (await self.client()).create_partitions({name: NewPartitions(total_count=total)})

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Remove what is before an offset, for each partition."""
        await (await self.client()).delete_records(
            {partition: RecordsToDelete(before_offset=offset) for partition, offset in before.items()}
        )

    async def committed(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return everything that a group has committed.

        Raises:
            NotThere: if there is no such group: it has committed nothing and has no member.
        """
        client = await self.client()
        found: dict[TopicPartition, OffsetAndMetadata] = await client.list_consumer_group_offsets(group)
        if not found and await self._is_dead(client, group):
            raise NotThere(f"Kafka at {self._login} has no consumer group {group!r}, or we may not see it")
        return found

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets for a group that has no members, which makes it if it is not there; notes beside them go.

        Raises:
            UnknownMemberIdError: if it has members; nothing was committed.
            KafkaError: if the broker refused, or could not be asked.
        """
        client = await self.client()
        by_topic: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, partition), offset in offsets.items():
            by_topic.setdefault(topic, []).append((partition, offset, ""))
        # As a member of no generation, which is what Kafka's own tool does; aiokafka has no public way.
        request = OffsetCommitRequest(group, -1, "", -1, list(by_topic.items()))
        answer = await client._send_request(request, await client.find_coordinator(group))
        for topic, partitions in answer.topics:
            _raise([(f"{topic}-{partition}", code) for partition, code in partitions])

    async def members(self, group: str) -> list[str]:
        """Return who is in a group: its client's name, its own, and where it is."""
        (answer,) = await (await self.client()).describe_consumer_groups([group])
        ((_, _, _, _, _, members, *_),) = answer.groups
        return [f"{client} ({member}) at {host.lstrip('/')}" for member, client, host, *_ in members]

    async def _is_dead(self, client: Any, group: str) -> bool:
        (answer,) = await client.describe_consumer_groups([group])
        ((error, _, state, *_),) = answer.groups
        return bool(error) or state == "Dead"

    async def aclose(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await close(client.close, seconds=CLOSE_SECONDS)


def _raise(errors: Collection[tuple[Any, ...]], but: type[Exception] | None = None) -> None:
    for name, code, *text in errors:
        kind = for_code(code)
        if not code or (but is not None and issubclass(kind, but)):
            continue
        if issubclass(kind, UnknownTopicOrPartitionError):
            raise NotThere(f"there is no topic {name!r}, or we may not see it")
        raise kind(f"{name}: {text[0] if text and text[0] else kind.description}")
