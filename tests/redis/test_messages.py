"""Entries as messages: the fields on the wire, and what others wrote."""

import sys

import pytest

from pythia_core import JSON, Output
from pythia_redis.message import RedisMessage, to_fields


def entry(*fields: bytes, position: bytes = b"1700000000123-0") -> list[object]:
    """Return an entry as the connection brings it."""
    return [position, list(fields)]


def test_a_message_reads_its_entry_lazily() -> None:
    """Only id, body and size are looked at for every message; 200,000 a second come by."""
    message = RedisMessage(entry(b"body", b"{}", b"key", b"k", b"h:a", b"1"), 3)
    assert (message.raw, message.size, message.position, message.deliveries) == (
        b"{}",
        2,
        "1700000000123-0",
        3,
    )
    assert (message.partition, message.id, message.timestamp) == (0, "1700000000123-0", 1700000000.123)
    assert (message.key, dict(message.headers)) == ("k", {"a": "1"})
    assert not hasattr(message, "__dict__")


def test_a_message_is_small() -> None:
    """Thousands are in flight."""
    assert sys.getsizeof(RedisMessage(entry(b"body", b""))) <= 200


def test_an_entry_without_a_body_is_a_dict_of_its_fields() -> None:
    """What others write with XADD is a message too."""
    message = RedisMessage(entry(b"type", b"created", b"id", b"7"))
    assert JSON.decode(message.raw) == {"type": "created", "id": "7"}
    assert message.size == len(message.raw)
    assert dict(message.headers) == {}


def test_data_is_a_body_too() -> None:
    """Other frameworks call it that; the rest of their fields are headers."""
    message = RedisMessage(entry(b"version", b"1", b"data", b"[1]", b"key", b"k"))
    assert message.raw == b"[1]"
    assert message.key == "k"
    assert dict(message.headers) == {"version": "1"}


def test_the_body_may_stand_anywhere() -> None:
    """Whoever writes by hand does not know of an order; beside a body, data is a header like any other."""
    message = RedisMessage(entry(b"data", b"d", b"content-type", b"text/plain", b"body", b"b"))
    assert message.raw == b"b"
    assert dict(message.headers) == {"data": "d", "content-type": "text/plain"}


@pytest.mark.parametrize("field", [b"body", b"key", b"h:", b"h:x", b"n:x", b"\xff", b""])
@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"\xed\xa0\x80", b"x" * 10_000, b"\r\n"])
def test_no_entry_breaks_a_message(field: bytes, value: bytes) -> None:
    """Strangers write into streams; whatever they write is a message, and reading it raises nothing."""
    for message in (RedisMessage(entry(field, value)), RedisMessage(entry(field, value, b"body", b"{}"))):
        assert isinstance(message.raw, bytes)
        assert message.headers.items_all() is not None
        assert message.key in (None, value, value.decode("utf-8", "replace"))
        assert repr(message)
        if field not in (b"body", b"data"):
            JSON.decode(message.raw)


def test_a_body_field_wins_over_its_name_as_a_value() -> None:
    """Values are not names: a field whose value is "body" is just that."""
    message = RedisMessage(entry(b"x", b"body", b"data", b"d"))
    assert message.raw == b"d"


def test_outputs_become_fields() -> None:
    """The body comes first, where the reader looks first."""
    output = Output(None, None, key="k", headers={"a": "1", "b": None, "Content-Type": "text/csv"})
    assert to_fields(output, b"x", "application/json") == [
        *(b"body", b"x", b"key", "k", b"h:a", "1", b"n:b", b"", "content-type", "text/csv"),
    ]
    assert to_fields(Output(None, None), b"x", None) == [b"body", b"x"]
