"""What strangers publish: bodies that nobody can decode, bodies that are too large, headers of every bad kind.

Each is handled or is a dead letter, at once and whole; the messages around it are processed, and nothing stays behind.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import attrs

from pythia_core import Limits, Message, Reject
from pythia_rabbitmq import RabbitMQConsumer
from tests.bad_content import UNDECODABLE
from tests.rabbitmq.driving import CLASSIC, FAST, Client, make_engine, running
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually

MEBI = 1 << 20
STRANGE: dict[str, Any] = {
    "ten thousand": {f"x{n}": "v" for n in range(10_000)},
    "a long one": {"x": "v" * 100_000},
    "as much as goes": {"x": "v" * 130_800},  # so a dead letter with all of it is more than a server takes
    "a key of as much": {"x-pythia-key": "k" * 130_800},
    "line breaks": {"x\r\nInjected": "a\r\nb: c\n\x1b[31m"},
    "no name": {"": "1"},
    "ours": {"pythia-attempts": -1, "pythia-source": "elsewhere", "x-pythia-key": {"a": [1, None]}},
    "a broken trace": {"traceparent": "00-zz-zz-zz", "tracestate": "=,="},
    "a count": {"x-delivery-count": "many", "x-pythia-suspect": 1, "x-pythia-crashes": 9},
}


async def process(
    server: RabbitServer, client: Client, queue: str, *, expect: int, limits: Limits | None = None
) -> tuple[list[Any], Sequence[Any]]:
    """Run the engine until so many messages are settled; return the bodies that were handled, and the dead letters.

    A body {"poison": ...} is rejected.
    """
    handled: list[Any] = []

    async def handle(message: Message[Any]) -> None:
        body = message.body
        assert message.headers.items_all() is not None
        assert repr(message)
        if isinstance(body, dict) and "poison" in body:
            raise Reject("poison")
        handled.append(body)

    settings = attrs.evolve(FAST, limits=limits or Limits(bytes=256 * MEBI), order="key")
    place = RabbitMQConsumer(queue, url=server.url, **CLASSIC).dead_letters()
    assert place is not None
    async with place[0] as sink:
        await sink.check()
        engine = make_engine(server.url, queue, handle, settings, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: engine.stats.settled == expect, "all were settled", seconds=60)
        assert engine.stats.retried == 0
    assert await client.depth(queue) == 0
    return handled, await client.drain(f"{queue}.dlq")


async def test_what_cannot_be_decoded_is_a_dead_letter_at_once(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """Without a second attempt, byte for byte what it was, and the others are processed."""
    await client.declare(queue)
    for body in UNDECODABLE.values():
        await client.send(queue, body)
        await client.send(queue, b"[]")
    await client.send(queue, b"9" * 5_000)  # the parser makes a float of it or refuses it
    count = len(UNDECODABLE)
    handled, letters = await process(rabbitmq_server, client, queue, expect=2 * count + 1)
    assert handled.count([]) == count
    assert (
        {*UNDECODABLE.values()}
        <= {letter.body for letter in letters}
        <= {*UNDECODABLE.values(), b"9" * 5_000}
    )
    assert len(handled) + len(letters) == 2 * count + 1
    assert all("DecodeError" in letter.headers["pythia-error"] for letter in letters)


async def test_strange_headers_harm_nobody(
    rabbitmq_server: RabbitServer, client: Client, queue: str, caplog: Any
) -> None:
    """The message is handled like any other, and is a dead letter like any other; none of it breaks a log line."""
    caplog.set_level("DEBUG")
    await client.declare(queue)
    for headers in STRANGE.values():
        await client.send(queue, b'{"n": 1}', headers=headers)
        await client.send(queue, b'{"poison": 1}', headers=headers)
    count = len(STRANGE)
    handled, letters = await process(rabbitmq_server, client, queue, expect=2 * count)
    assert handled == [{"n": 1}] * count
    assert len(letters) == count
    assert all(letter.body in (b'{"poison": 1}', b"") for letter in letters)
    assert {letter.headers["pythia-source"] for letter in letters} == {queue}
    assert "\x1b" not in caplog.text and "\nb: c" not in caplog.text


async def test_a_body_that_is_too_large_is_a_reference(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """It never comes to the handler; what its dead letter has of it is its size and its hash."""
    large = b'"' + b"x" * (2 * MEBI) + b'"'
    await client.declare(queue)
    await client.send(queue, large)
    await client.send(queue, b"1")
    handled, (letter,) = await process(
        rabbitmq_server, client, queue, expect=2, limits=Limits(message_bytes=MEBI, bytes=256 * MEBI)
    )
    assert handled == [1]
    assert len(letter.body) < MEBI
    assert hashlib.sha256(large).hexdigest() in str(dict(letter.headers))
