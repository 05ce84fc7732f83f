"""The bytes of fetched records, kept until the records are taken, for the processor to compute their checksums.

They stand apart because aiokafka's parser keeps them to itself: they are picked up where an answer comes in. Whoever has
none, as after an answer that came twice, has the parser compute the checksums, which takes five times as long.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition


class Sent:
    """What a consumer's brokers have sent, by partition.

    Args:
        consumer: an :class:`aiokafka.AIOKafkaConsumer` that has not started.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._records: dict[TopicPartition, bytes] = {}
        self._send = consumer._client.send
        consumer._client.send = self._send_and_keep

    async def _send_and_keep(self, node: int, request: Any, **options: Any) -> Any:
        response = await self._send(node, request, **options)
        if isinstance(request, FetchRequest):
            waiting = self._consumer._fetcher._records
            self._records = {each: sent for each, sent in self._records.items() if each in waiting}
            for topic, answers in response.topics:
                self._records |= {TopicPartition(topic, answer[0]): answer[-1] for answer in answers}
        return response

    def take(self, partition: TopicPartition) -> bytes | None:
        """Return the bytes that came last of a partition, once."""
        return self._records.pop(partition, None)
