"""What travels unharmed, from any publisher, and what is made of what AMQP has and a message has not."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pythia_core import Output
from pythia_rabbitmq import RabbitMQProducer
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
