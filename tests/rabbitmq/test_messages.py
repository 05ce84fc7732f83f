"""What travels unharmed, from any publisher, and what is made of what AMQP has and a message has not."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiormq import spec
from aiormq.abc import ChannelFrame
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from pythia_core import Output
from pythia_rabbitmq import RabbitMQProducer
from pythia_rabbitmq.tolerance import UNREADABLE, table
from tests.rabbitmq.driving import Client, Members
from tests.servers.rabbitmq import RabbitServer


async def test_what_we_write_we_read(rabbitmq_server: RabbitServer, members: Members, queue: str) -> None:
    """Body, key, headers of text, bytes and nothing, names that repeat."""
    member = await members(queue)
    headers: Any = [("a", "ä"), ("b", b"\xff"), ("none", None), ("twice", "1"), ("twice", "2"), ("", "empty")]
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as sink:
        await sink.write(
            [
                Output(sink, {"n": 1}, key="k", headers=headers),
                Output(sink, b"", key=b"\xff"),
                Output(sink, "x", headers={"Content-Type": "text/plain"}),
            ]
        )
    first, second, third = await member.receive(3)
    assert (first.raw, first.key) == (b'{"n":1}', "k")
    assert set(first.headers.items_all()) == {*headers, ("content-type", "application/json")}
    assert first.id and first.timestamp is not None
    assert (second.raw, second.key) == (b"", b"\xff")
    assert third.headers["content-type"] == "text/plain"


async def test_headers_of_every_amqp_type_are_read(client: Client, members: Members, queue: str) -> None:
    """As text, bytes or nothing; arrays as a name that repeats, tables as JSON."""
    member = await members(queue)
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    given: Any = {
        "true": True,
        "int": 7,
        "big": 1 << 40,
        "float": 1.5,
        "decimal": Decimal("1.25"),
        "text": "ä",
        "bytes": bytearray(b"\xff"),
        "time": when,
        "table": {"a": 1, "when": when, "raw": bytearray(b"x")},
        "array": [1, "two", None],
        "none": None,
        "x" * 128: "long",
    }
    await client.send(queue, b"{}", headers=given)
    (message,) = await member.receive()
    headers = message.headers
    assert {name: headers[name] for name in given if name != "table"} == {
        "true": "true",
        "int": "7",
        "big": str(1 << 40),
        "float": "1.5",
        "decimal": "1.25",
        "text": "ä",
        "bytes": b"\xff",
        "time": "2026-01-02T03:04:05+00:00",
        "array": None,
        "none": None,
        "x" * 128: "long",
    }
    assert headers["table"] == '{"a": 1, "raw": "x", "when": "2026-01-02T03:04:05+00:00"}'
    assert [value for name, value in headers.items_all() if name == "array"] == ["1", "two", None]


async def test_a_bare_message_is_a_message(client: Client, members: Members, queue: str) -> None:
    """Without anything beside its body."""
    member = await members(queue)
    await client.send(queue, b"x")
    (message,) = await member.receive()
    assert (message.raw, message.key, message.timestamp) == (b"x", None, None)
    assert (message.deliveries, message.routing_key) == (1, queue)  # type: ignore[attr-defined]


async def publish_strange(
    client: Client, queue: str, *replaced: tuple[bytes, bytes], **properties: Any
) -> None:
    """Publish a message in whose header some bytes are replaced by others, which no client would write."""
    header = frame.marshal(ContentHeader(properties=spec.Basic.Properties(**properties), body_size=2), 0)
    for old, new in replaced:
        assert len(old) == len(new) and old in header
        header = header.replace(old, new)
    open_channel = await client.connection.channel(publisher_confirms=False)
    channel = await open_channel.get_underlay_channel()
    publish = frame.marshal(spec.Basic.Publish(routing_key=queue), channel.number)
    body = frame.marshal(ContentBody(b"{}"), channel.number)
    payload = publish + header[:1] + publish[1:3] + header[3:] + body
    await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))


async def test_what_is_no_utf8_ends_no_connection(client: Client, members: Members, queue: str) -> None:
    """Nor does a time that no calendar has: such a message would come again and end every connection for ever."""
    member = await members(queue)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    strange = [
        (b"NAME", b"\xff\xfeME"),
        (b"TYPE", b"\xffYPE"),
        (int(when.timestamp()).to_bytes(8, "big"), b"\x7f" * 8),
    ]
    await publish_strange(
        client, queue, *strange, headers={"NAME": "x", "good": "y"}, content_type="TYPE", timestamp=when
    )
    (
        first,
    ) = (
        await member.receive()
    )  # before the other one is sent: that goes by another channel, and may overtake it
    await client.publish(queue, 1)
    (second,) = await member.receive()
    assert dict(first.headers) == {"content-type": "\\xffYPE", "\\xff\\xfeME": "x", "good": "y"}
    assert first.timestamp is None
    assert second.raw == b'{"n": 0}'
    assert member.owner.told == ["assigned"]


@pytest.mark.parametrize("content", [b"\x01a?", b"\x01aI\0", b"\x09a", b"\x01aF\0\0\0\x02\x01"])
def test_a_table_that_cannot_be_read_is_handed_over_as_it_is(content: bytes) -> None:
    """An unknown type, or less than it says; nested in another one it takes nothing else with it."""
    whole = len(content).to_bytes(4, "big") + content
    end, found = table(whole + b"rest")
    assert end == len(whole)
    assert UNREADABLE in found or UNREADABLE in found["a"]
    outer = b"\x01tF" + whole + b"\x01bS\0\0\0\x01x"
    assert table(len(outer).to_bytes(4, "big") + outer)[1] == {"t": found, "b": "x"}
