"""How entries are written: pipelined, each one accounted for by a deadline, and by a new client after every failure.

aiokafka's idempotent producer numbers what it sends. A batch that is refused leaves a hole in the numbers, after which the
broker refuses all that follows; and a batch that is not confirmed is sent again for ever, also after the output was
reported as failed and has been written anew. So after any failure the client is thrown away, with all it still holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
import attrs
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from pythia_core import Output, WriteError, WriteResult, held_back
from pythia_kafka.complaints import explained
from pythia_kafka.connecting import client_options, close, confine
from pythia_kafka.options import Login
from pythia_kafka.topics import Topics

log = logging.getLogger("pythia.kafka")

CONTENT_TYPE: Final = "content-type"
START_SECONDS: Final = 10.0
FLUSH_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 1.0

Pairs = list[tuple[str, bytes | None]]


@attrs.frozen
class Entry:
    """A message to be written.

    Args:
        index: of its output.
        key: or None.
        value: or None for a tombstone.
        headers: as Kafka has them.
    """

    index: int
    key: bytes | None
    value: bytes | None
    headers: Pairs


class Writer:
    """Writes to any topic of a cluster.

    Args:
        login: the cluster.
        compression: or None.
        linger: seconds.
        max_request_bytes: of one message.
        seconds: until what is not confirmed counts as failed.
    """

    def __init__(
        self, login: Login, *, compression: str | None, linger: float, max_request_bytes: int, seconds: float
    ) -> None:
        self._login = login
        self._seconds = seconds
        self._options: dict[str, Any] = {
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": compression,
            "linger_ms": int(linger * 1000),
            "max_request_size": max_request_bytes,
            "request_timeout_ms": int(min(seconds, 30.0) * 1000),
        }
        self._line: Line | None = None
        self._starting = anyio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Connect.

        Raises:
            WriteError: if no broker can be reached.
        """
        await self._current()

    async def _current(self) -> Line:
        async with self._starting:
            if self._closed:
                raise WriteError("the producer was closed")
            if self._line is None:
                line = Line(self._login, self._options)
                try:
                    with anyio.fail_after(START_SECONDS):
                        await line.producer.start()
                except (KafkaError, TimeoutError, OSError) as error:
                    await line.aclose(flush=False)
                    text = explained(error, self._login, START_SECONDS)
                    raise WriteError(f"Kafka at {self._login}: {text}") from None
                except BaseException:
                    await line.aclose(flush=False)
                    raise
                self._line = line
            return self._line

    async def _discard(self, line: Line) -> None:
        """Throw a client away; who else waits for it hears of it."""
        if self._line is line:
            self._line = None
        line.break_off()
        await line.aclose(flush=False)

    async def write(self, topic: str, entries: Sequence[Entry], errors: dict[int, WriteError]) -> WriteResult:
        """Write entries in their order, but for those whose key has failed already; account for each one."""
        try:
            line = await self._current()
        except WriteError as error:
            return WriteResult((), {**{entry.index: error for entry in entries}, **errors})
        sent = await self._send(line, topic, entries, errors)
        confirmed: list[int] = []
        failed = False
        for index, future in sent.items():
            if (outcome := _outcome(future)) is None:
                confirmed.append(index)
            else:
                errors[index] = outcome
                failed = True
        if failed or line.broken.done():
            await self._discard(line)
        return WriteResult(confirmed, errors)

    async def _send(
        self, line: Line, topic: str, entries: Sequence[Entry], errors: dict[int, WriteError]
    ) -> dict[int, asyncio.Future[Any]]:
        """Send entries and wait for what becomes of them; what was not sent at all is entered into ``errors``."""
        sent: dict[int, asyncio.Future[Any]] = {}
        stuck: set[bytes] = set()
        late = WriteError(f"not confirmed within {self._seconds:g} s: perhaps written, perhaps not")
        with anyio.move_on_after(self._seconds):
            for entry in entries:
                if entry.key in stuck:
                    errors[entry.index] = held_back(entry.key)
                    continue
                errors[entry.index] = late  # until it is known better
                try:
                    sent[entry.index] = await line.producer.send(
                        topic, entry.value, entry.key, headers=entry.headers
                    )
                    del errors[entry.index]
                except (KafkaError, TypeError, AssertionError) as error:
                    errors[entry.index] = _error(error)
                    if entry.key is not None:
                        stuck.add(entry.key)
            await line.wait(list(sent.values()))
        for entry in entries:
            if entry.index not in sent:
                errors.setdefault(entry.index, late)
        return sent

    async def check(self, topic: str, *, create: bool) -> None:
        """Raise if a topic is not there, or make it.

        Raises:
            WriteError: if it is not there, or could not be made, or nobody answers.
        """
        topics = Topics(self._login)
        try:
            with anyio.fail_after(START_SECONDS):
                if topic in await topics.missing([topic]):
                    if not create:
                        raise WriteError(
                            f"Kafka at {self._login} has no topic {topic!r}, or we may not see it; "
                            "create_topic=True makes it"
                        )
                    await topics.create(topic)
                    log.info("made the topic %s", topic)
        except (KafkaError, TimeoutError, OSError) as error:
            raise WriteError(
                f"topic {topic!r} at Kafka {self._login} cannot be checked: "
                f"{explained(error, self._login, START_SECONDS)}"
            ) from None
        finally:
            await topics.aclose()

    async def aclose(self) -> None:
        """Send what is left for a moment, and disconnect."""
        self._closed = True
        line, self._line = self._line, None
        if line is not None:
            await line.aclose(flush=True)


class Line:
    """One client, until its first failure."""

    def __init__(self, login: Login, options: Mapping[str, Any]) -> None:
        self.producer: Any = AIOKafkaProducer(**client_options(login), **options)
        confine(self.producer.client, login)
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, futures: Sequence[asyncio.Future[Any]]) -> None:
        """Wait until all have come out, or the client is thrown away."""
        if futures:
            every: asyncio.Future[Any] = asyncio.gather(*futures, return_exceptions=True)
            await asyncio.wait([every, self.broken], return_when=asyncio.FIRST_COMPLETED)

    def break_off(self) -> None:
        """End every wait."""
        if not self.broken.done():
            self.broken.set_result(None)

    async def aclose(self, *, flush: bool) -> None:
        """Disconnect, within a few seconds even if nobody answers."""
        producer = self.producer
        if flush:
            await close(producer.stop, seconds=FLUSH_SECONDS)
        producer._closed = True  # its own stop would first wait for all it holds to be confirmed
        await close(producer._sender.close, producer.client.close, seconds=CLOSE_SECONDS)


def _outcome(future: asyncio.Future[Any]) -> WriteError | None:
    if not future.done():
        future.add_done_callback(_heard)
        return WriteError("not confirmed in time: perhaps written, perhaps not")
    if future.cancelled():
        return WriteError("given up by the client: perhaps written, perhaps not")
    error = future.exception()
    return None if error is None else _error(error)


def _heard(future: asyncio.Future[Any]) -> None:
    """Look at a result that nobody waits for any more, so that asyncio does not complain."""
    if not future.cancelled():
        future.exception()


def _error(error: BaseException) -> WriteError:
    never = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError, TypeError, AssertionError)
    what = {
        UnknownTopicOrPartitionError: "the topic is not there",
        TopicAuthorizationFailedError: "we may not write to it",
    }.get(type(error))
    return WriteError(
        f"Kafka refused it: {what or str(error) or type(error).__name__}", permanent=isinstance(error, never)
    )


def key_bytes(key: str | bytes | None) -> bytes | None:
    """Return a key as Kafka has it."""
    return key.encode() if isinstance(key, str) else key


def to_headers(output: Output, content_type: str | None) -> Pairs:
    """Return the headers of an output as Kafka has them.

    Args:
        output: what is written.
        content_type: what the codec made of the value, or None if it was bytes; a header of that name wins.
    """
    given = output.headers or ()
    pairs: Pairs = [
        (name, value.encode() if isinstance(value, str) else value)
        for name, value in (given.items() if isinstance(given, Mapping) else given)
    ]
    if content_type is not None and all(name.lower() != CONTENT_TYPE for name, _ in pairs):
        pairs.append((CONTENT_TYPE, content_type.encode()))
    return pairs
