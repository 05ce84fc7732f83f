"""What strangers write into a topic: bodies that nobody can decode, bodies of 16 MiB, headers of every bad kind.

Each is handled or is a dead letter, at once and whole; the messages around it are processed, and all is committed.
"""

import hashlib
from typing import Any

import attrs
import pytest
from aiokafka import ConsumerRecord

from pythia_core import Limits, Message, Reject
from pythia_kafka import KafkaProducer
from tests.bad_content import UNDECODABLE
from tests.kafka.driving import MakeTopic, Publisher, read
from tests.kafka.engines import FAST, ends, make_engine, running
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually

MEBI = 1 << 20
HUGE = 17 * MEBI

STRANGE_HEADERS: dict[str, list[tuple[str, bytes | None]]] = {
    "value of no UTF-8": [("x", b"\xff\xfe\xed\xa0\x80")],
    "no value": [("x", None), ("y", b"")],
    "half a megabyte": [("x", b"v" * (MEBI // 2))],
    "ten thousand": [(f"x{n}", b"v") for n in range(10_000)],
    "line breaks": [("x\r\nInjected", b"a\r\nb: c\n\x1b[31m")],
    "the same twice": [("x", b"1"), ("x", b"2"), ("x", b"3")],
    "no name": [("", b"1")],
    "ours": [("pythia-attempts", b"-1"), ("pythia-source", b"elsewhere"), ("content-type", b"\xff")],
    "a broken trace": [("traceparent", b"00-zz-zz-zz"), ("tracestate", b"=,=")],
}


@attrs.define
class Outcome:
    """What came of it: the bodies that were handled, and the dead letters by the offset of what they were."""

    handled: list[Any]
    letters: list[ConsumerRecord[Any, Any]]


async def process(server: KafkaServer, topic: str, *, expect: int, limits: Limits | None = None) -> Outcome:
    """Run the engine until so many messages are settled; a body {"poison": ...} is rejected."""
    handled: list[Any] = []

    async def handle(message: Message[Any]) -> None:
        body = message.body
        assert message.headers.items_all() is not None
        assert repr(message)
        if isinstance(body, dict) and "poison" in body:
            raise Reject("poison")
        handled.append(len(body) if isinstance(body, str) else body)

    settings = attrs.evolve(FAST, limits=limits or Limits(bytes=256 * MEBI))
    async with KafkaProducer(f"{topic}.dlq", bootstrap_servers=server.address, create_topic=True) as sink:
        await sink.check()
        engine = make_engine(server.address, topic, handle, settings, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: engine.stats.settled == expect, "all were settled", seconds=30)
        assert engine.stats.retried == 0
    assert sum((await ends(server.address, topic)).values()) == expect
    count = expect - len(handled)
    return Outcome(handled, await read(server.address, f"{topic}.dlq", count))


async def test_what_cannot_be_decoded_is_a_dead_letter_at_once(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """Without a second attempt, byte for byte what it was, and the others are processed."""
    topic = await make_topic()
    for number, body in enumerate(UNDECODABLE.values()):
        await publisher.publish(topic, start=number)
        await publisher.producer.send_and_wait(topic, body, partition=0)
    outcome = await process(kafka_server, topic, expect=2 * len(UNDECODABLE))
    assert outcome.handled == [{"n": number} for number in range(len(UNDECODABLE))]
    assert [letter.value for letter in outcome.letters] == list(UNDECODABLE.values())
    assert all(b"DecodeError" in dict(letter.headers)["pythia-error"] for letter in outcome.letters)


async def test_an_integer_of_five_thousand_digits_is_no_crash(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """The parser makes a float of it or refuses it; either way the message has an end."""
    topic = await make_topic()
    await publisher.producer.send_and_wait(topic, b"9" * 5_000, partition=0)
    await publisher.publish(topic, start=2)
    outcome = await process(kafka_server, topic, expect=2)
    assert {"n": 2} in outcome.handled
    assert len(outcome.handled) + len(outcome.letters) == 2


async def test_strange_headers_harm_nobody(
    kafka_server: KafkaServer,
    make_topic: MakeTopic,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The message is handled like any other, and as a dead letter it takes them along; none of it breaks a log line."""
    caplog.set_level("DEBUG")
    topic = await make_topic()
    for headers in STRANGE_HEADERS.values():
        for body in (b'{"n": 1}', b'{"poison": 1}'):
            await publisher.producer.send_and_wait(topic, body, partition=0, headers=headers)
    outcome = await process(kafka_server, topic, expect=2 * len(STRANGE_HEADERS))
    assert outcome.handled == [{"n": 1}] * len(STRANGE_HEADERS)
    for letter, headers in zip(outcome.letters, STRANGE_HEADERS.values(), strict=True):
        kept = [(name, value) for name, value in headers if not name.startswith("pythia-")]
        assert letter.value == b'{"poison": 1}'
        assert [pair for pair in letter.headers if pair in kept] == kept
        assert dict(letter.headers)["pythia-source"] == topic.encode()
    assert not any("\n" in line or "\x1b" in line for line in caplog.messages)


async def test_16_mebibytes_are_a_reference(kafka_server: KafkaServer, make_topic: MakeTopic) -> None:
    """Above the limit by one byte or by fifteen: never decoded, and the dead letter tells what it was."""
    topic = await make_topic(max_message_bytes=str(HUGE))
    largest = b'"' + b"x" * (MEBI - 2) + b'"'
    over = [largest[:-1] + b'x"', b'"' + b"y" * (16 * MEBI) + b'"']
    async with Publisher.connected(kafka_server.address, max_request_size=HUGE) as publisher:
        for body in (largest, *over):
            await publisher.producer.send_and_wait(topic, body, partition=0)
    outcome = await process(kafka_server, topic, expect=3)
    assert outcome.handled == [MEBI - 2]
    for letter, body in zip(outcome.letters, over, strict=True):
        headers = dict(letter.headers)
        assert body.startswith(letter.value)
        assert len(letter.value) <= 4096
        assert headers["pythia-body-bytes"] == b"%d" % len(body)
        assert headers["pythia-body-sha256"] == hashlib.sha256(body).hexdigest().encode()


async def test_16_mebibytes_pass_where_they_may(kafka_server: KafkaServer, make_topic: MakeTopic) -> None:
    """Several, more than the bound on bytes in flight takes: it is reached, and left again."""
    topic = await make_topic(2, max_message_bytes=str(HUGE))
    body = b'"' + b"z" * (16 * MEBI) + b'"'
    async with Publisher.connected(kafka_server.address, max_request_size=HUGE) as publisher:
        for number in range(4):
            await publisher.producer.send_and_wait(topic, body, partition=number % 2)
    limits = Limits(message_bytes=HUGE, bytes=20 * MEBI)
    outcome = await process(kafka_server, topic, expect=4, limits=limits)
    assert outcome.handled == [16 * MEBI] * 4
