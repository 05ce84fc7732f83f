"""What strangers write into a stream: bodies that nobody can decode, bodies of 16 MiB, headers of every bad kind.

Each is handled or is a dead letter, at once and whole; the messages around it are processed, and nothing stays pending.
"""

import hashlib
from typing import Any

import attrs
import pytest
import redis

from pythia_core import Limits, Message, Reject
from pythia_redis import RedisStreamsProducer
from tests.bad_content import UNDECODABLE
from tests.redis.driving import pending
from tests.redis.engines import FAST, make_engine, running
from tests.servers.redis import RedisServer
from tests.waiting import eventually

MEBI = 1 << 20

STRANGE_HEADERS: dict[str, list[tuple[bytes, bytes]]] = {
    "name of no UTF-8": [(b"h:\xff\xfe", b"1")],
    "value of no UTF-8": [(b"h:x", b"\xff\xfe\xed\xa0\x80")],
    "a megabyte": [(b"h:x", b"v" * MEBI)],
    "ten thousand": [(b"h:x%d" % n, b"v") for n in range(10_000)],
    "line breaks": [(b"h:x\r\nInjected", b"a\r\nb: c\n\x1b[31m")],
    "the same twice": [(b"h:x", b"1"), (b"h:x", b"2"), (b"h:x", b"3")],
    "no name": [(b"h:", b"1"), (b"", b"2"), (b"n:", b"")],
    "ours": [(b"h:pythia-attempts", b"-1"), (b"h:pythia-source", b"elsewhere"), (b"content-type", b"\xff")],
    "a broken trace": [(b"h:traceparent", b"00-zz-zz-zz"), (b"h:tracestate", b"=,=")],
    "a key of no UTF-8": [(b"key", b"\xff")],
    "a key of a megabyte": [(b"key", b"k" * MEBI)],
}


def add_raw(client: redis.Redis, *fields: tuple[bytes, bytes]) -> None:
    """Write an entry as it is: names may repeat, which the client's dict cannot say."""
    flat = [part for field in fields for part in field]
    client.execute_command("XADD", "events", "*", *flat)  # type: ignore[no-untyped-call]


def letters(redis_server: RedisServer) -> list[list[tuple[bytes, bytes]]]:
    """Return the dead letters: fields as they are, names repeated."""
    with redis.Redis(port=redis_server.port, protocol=2) as raw:
        raw.set_response_callback("XRANGE", lambda answer, **_: answer)
        entries: Any = raw.execute_command("XRANGE", "events:dlq", "-", "+")
    return [list(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]


@attrs.define
class Outcome:
    """What came of it: the bodies that were handled, and the dead letters."""

    handled: list[Any]
    letters: list[list[tuple[bytes, bytes]]]


async def process(
    server: RedisServer, client: redis.Redis, *, expect: int, limits: Limits | None = None
) -> Outcome:
    """Run the engine until so many messages are settled; a body {"poison": ...} is rejected."""
    handled: list[Any] = []

    async def handle(message: Message[Any]) -> None:
        body = message.body
        assert message.headers.items_all() is not None
        assert repr(message)
        if isinstance(body, dict) and "poison" in body:
            raise Reject("poison")
        handled.append(len(body) if isinstance(body, str) else body)

    settings = attrs.evolve(FAST, limits=limits or Limits(bytes=256 * MEBI), order="key")
    sink = RedisStreamsProducer("events:dlq", url=server.url)
    async with sink:
        engine = make_engine(server.url, handle, settings, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: engine.stats.settled == expect, "all were settled", seconds=30)
        assert engine.stats.retried == 0
    assert pending(client) == {}
    return Outcome(handled, letters(server))


@pytest.mark.parametrize("kind", UNDECODABLE)
async def test_what_cannot_be_decoded_is_a_dead_letter_at_once(
    client: redis.Redis, redis_server: RedisServer, kind: str
) -> None:
    """Without a second attempt, byte for byte what it was, and the others are processed."""
    add_raw(client, (b"body", b'{"n": 1}'))
    add_raw(client, (b"body", UNDECODABLE[kind]))
    add_raw(client, (b"body", b'{"n": 2}'))
    outcome = await process(redis_server, client, expect=3)
    assert outcome.handled == [{"n": 1}, {"n": 2}]
    (letter,) = outcome.letters
    assert dict(letter)[b"body"] == UNDECODABLE[kind]
    assert b"DecodeError" in dict(letter)[b"h:pythia-error"]


async def test_an_integer_of_five_thousand_digits_is_no_crash(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """The parser makes a float of it or refuses it; either way the message has an end."""
    add_raw(client, (b"body", b"9" * 5_000))
    add_raw(client, (b"body", b'{"n": 2}'))
    outcome = await process(redis_server, client, expect=2)
    assert {"n": 2} in outcome.handled
    assert len(outcome.handled) + len(outcome.letters) == 2


@pytest.mark.parametrize("kind", STRANGE_HEADERS)
async def test_strange_headers_harm_nobody(
    client: redis.Redis, redis_server: RedisServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is handled like any other, and as a dead letter it takes them along; none of it breaks a log line."""
    caplog.set_level("DEBUG")
    strange = STRANGE_HEADERS[kind]
    add_raw(client, (b"body", b'{"n": 1}'), *strange)
    add_raw(client, (b"body", b'{"poison": 1}'), *strange)
    outcome = await process(redis_server, client, expect=2)
    assert outcome.handled == [{"n": 1}]
    (letter,) = outcome.letters
    assert dict(letter)[b"body"] == b'{"poison": 1}'
    kept = [pair for pair in strange if pair[0][:9] != b"h:pythia-" and pair[0][:2] == b"h:"]
    assert [pair for pair in letter if pair in kept] == kept or kind == "name of no UTF-8"
    assert dict(letter)[b"h:pythia-source"] == b"events"
    assert not any("\n" in line or "\x1b" in line for line in caplog.messages)


async def test_16_mebibytes_are_a_reference(client: redis.Redis, redis_server: RedisServer) -> None:
    """Above the limit by one byte or by fifteen: never decoded, and the dead letter tells what it was."""
    largest = b'"' + b"x" * (MEBI - 2) + b'"'
    over = [largest[:-1] + b'x"', b'"' + b"y" * (16 * MEBI) + b'"']
    for body in (largest, *over):
        add_raw(client, (b"body", body))
    outcome = await process(redis_server, client, expect=3)
    assert outcome.handled == [MEBI - 2]
    assert len(outcome.letters) == 2
    for letter, body in zip(outcome.letters, over, strict=True):
        fields = dict(letter)
        assert body.startswith(fields[b"body"])
        assert len(fields[b"body"]) <= 4096
        assert fields[b"h:pythia-body-bytes"] == b"%d" % len(body)
        assert fields[b"h:pythia-body-sha256"] == hashlib.sha256(body).hexdigest().encode()


async def test_16_mebibytes_pass_where_they_may(client: redis.Redis, redis_server: RedisServer) -> None:
    """Several at once, more than the bound on bytes in flight takes: it is reached, and left again."""
    for _ in range(4):
        add_raw(client, (b"body", b'"' + b"z" * (16 * MEBI) + b'"'))
    limits = Limits(message_bytes=17 * MEBI, bytes=20 * MEBI)
    outcome = await process(redis_server, client, expect=4, limits=limits)
    assert outcome.handled == [16 * MEBI] * 4
    assert outcome.letters == []
