"""Records as messages, and outputs as records."""

import sys
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from pythia_core import Output
from pythia_kafka.message import KafkaMessage, Partition
from pythia_kafka.writing import to_headers


def record(**fields: Any) -> ConsumerRecord[bytes, bytes]:
    """Return a record as the client brings it."""
    given = {
        "topic": "orders",
        "partition": 3,
        "offset": 42,
        "timestamp": 1_700_000_000_123,
        "timestamp_type": 0,
        "key": None,
        "value": b"{}",
        "checksum": None,
        "serialized_key_size": -1,
        "serialized_value_size": 2,
        "headers": (),
        **fields,
    }
    return ConsumerRecord(**given)


def message(**fields: Any) -> KafkaMessage:
    """Return a message of such a record."""
    return KafkaMessage(Partition("orders", 3), record(**fields))


@pytest.mark.parametrize("key", [None, b"k", b"\xff"])
def test_order_goes_by_the_bytes_of_the_key(key: bytes | None) -> None:
    """They stand for the key one to one, and nobody has to decode them for that."""
    read = message(key=key)
    assert KafkaMessage.order_by(read) == key
    assert (KafkaMessage.order_by(read) is None) == (read.key is None)


def test_a_message_reads_its_record_lazily() -> None:
    """Only body, size and place are looked at for every message; 200,000 a second come by."""
    read = message(key=b"k", headers=(("a", b"1"),))
    assert (read.raw, read.size, read.position, read.deliveries) == (b"{}", 2, 42, None)
    assert (read.topic, str(read.partition), read.id, read.timestamp) == (
        "orders",
        "orders-3",
        "orders-3@42",
        1700000000.123,
    )
    assert (read.key, dict(read.headers)) == ("k", {"a": "1"})
    assert not hasattr(read, "__dict__")


def test_a_message_is_small() -> None:
    """Thousands are in flight."""
    assert sys.getsizeof(message()) <= 200


def test_a_tombstone_has_no_body() -> None:
    """A record without a value is how a compacted topic removes a key."""
    read = message(key=b"k", value=None)
    assert (read.body, read.raw, read.size) == (None, b"", 0)


def test_a_partition_is_equal_to_the_clients() -> None:
    """It is looked up in the client's tables, and reads better."""
    assert Partition("orders", 3) == TopicPartition("orders", 3)
    assert hash(Partition("orders", 3)) == hash(TopicPartition("orders", 3))
    assert f"{Partition('orders', 3)}" == repr(Partition("orders", 3)) == "orders-3"


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"\xed\xa0\x80", b"x" * 10_000, b"\r\n", None])
def test_no_record_breaks_a_message(value: bytes | None) -> None:
    """Strangers write into topics; whatever they write is a message, and reading it raises nothing."""
    read = message(key=value, value=value, headers=(("", value), ("\r\n", value)), timestamp=-1)
    assert isinstance(read.raw, bytes)
    assert len(read.headers.items_all()) == 2
    assert read.key in (None, value, (value or b"").decode("utf-8", "replace"))
    assert read.timestamp is None
    assert repr(read)


def test_headers_become_bytes() -> None:
    """Repeated ones too; what the codec made of the body is said, unless the author says it."""
    output = Output(None, None, headers=[("a", "ü"), ("a", b"2"), ("b", None)])
    assert to_headers(output, "application/json") == [
        ("a", "ü".encode()),
        ("a", b"2"),
        ("b", None),
        ("content-type", b"application/json"),
    ]
    assert to_headers(Output(None, None, headers={"Content-Type": "text/csv"}), "application/json") == [
        ("Content-Type", b"text/csv")
    ]
    assert to_headers(Output(None, None), None) == []
