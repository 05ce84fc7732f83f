"""A Kafka record as a message, read only as far as somebody looks."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from aiokafka.structs import TopicPartition

from pythia_core import NO_HEADERS, UNDECODED, Headers, Message


class Partition(TopicPartition):
    """A partition of a topic, written ``orders-3`` as Kafka writes it, and equal to the client's own pair."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"

    __repr__ = __str__


class KafkaMessage(Message[Any]):
    """A record. The body of a tombstone, which has no value, is None.

    Args:
        partition: where it was read.
        record: as the client's parser made it; its own ``ConsumerRecord`` will do as well.
    """

    __slots__ = ("_record",)

    order_by = attrgetter("_record.key")  # the bytes: for order nobody needs their text
    deliveries = None  # of every message, so that none has to hold it: Kafka does not count

    def __init__(self, partition: Partition, record: Any) -> None:
        # Not super().__init__: at 200,000 messages a second every name set here is a percent.
        self._record = record
        self.partition = partition
        self.position = record.offset
        value = record.value
        if value is None:
            self.raw = b""
            self.size = 0
            self._body = None
        else:
            self.raw = value
            self.size = len(value)
            self._body = UNDECODED

    @property
    def topic(self) -> str:
        """The topic it was read from."""
        return self.partition.topic  # type: ignore[attr-defined]

    @property
    def id(self) -> str:  # type: ignore[override]
        """Partition and offset: ``orders-3@42``."""
        return f"{self.partition}@{self.position}"

    @property
    def key(self) -> str | bytes | None:  # type: ignore[override]
        """What ordering goes by: text where the bytes are UTF-8."""
        key = self._record.key
        return None if key is None else _text(key)

    @property
    def headers(self) -> Headers:  # type: ignore[override]
        """The headers: text where the bytes are UTF-8."""
        headers = self._record.headers
        if not headers:
            return NO_HEADERS
        return Headers((name, None if value is None else _text(value)) for name, value in headers)

    @property
    def timestamp(self) -> float | None:  # type: ignore[override]
        """When it was published, by the producer's or the broker's clock, as the topic is set."""
        milliseconds = self._record.timestamp
        return None if milliseconds is None or milliseconds < 0 else milliseconds / 1000


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
