"""One channel of publications: written at once, confirmed or returned, until its first failure.

It stands apart from :mod:`~pythia_rabbitmq.writing`, which decides what is published when, and makes channels anew.

aiormq publishes with a task and two futures a message. Here a batch is written at once, and confirms are matched to it by
their number.

P1. An entry is confirmed when the server has confirmed it and has not returned it as unroutable.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

import aiormq
import anyio
import attrs
from aiormq import spec
from aiormq.abc import ChannelFrame
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from pythia_core import WriteError
from pythia_rabbitmq.connection import Line, describe, log
from pythia_rabbitmq.delays import place

AT_ONCE: Final = 1 << 20  # bytes in one write to the client


@attrs.frozen
class Entry:
    """A message to be published.

    Args:
        index: of its output.
        key: of its output.
        routing_key: where it goes.
        properties: as AMQP has them.
        body: as bytes.
        wait: milliseconds for which it is held back.
    """

    index: int
    key: Any
    routing_key: str
    properties: spec.Basic.Properties
    body: bytes
    wait: int = 0


class Batch:
    """Entries under way.

    Args:
        entries: with different keys.
        errors: takes what became of those that are not confirmed.
    """

    def __init__(self, entries: Sequence[Entry], errors: dict[int, WriteError]) -> None:
        self.entries = entries
        self._errors = errors
        self._open = {entry.index for entry in entries}
        self.done = anyio.Event()

    def settle(self, index: int, error: WriteError | None) -> None:
        """Take note of what became of one; what was returned is confirmed as well, which changes nothing."""
        if error is not None:
            self._errors.setdefault(index, error)
        self._open.discard(index)
        if not self._open:
            self.done.set()

    def give_up(self, error: WriteError) -> None:
        """Fail what has not come out."""
        for index in tuple(self._open):
            self.settle(index, error)


class Press:
    """One channel for publishing, until its first failure.

    Args:
        line: its connection.
        channel: in confirm mode.
        exchange: where to.
    """

    def __init__(self, line: Line, channel: aiormq.Channel, exchange: str) -> None:
        self.line = line
        self.pending: dict[int, tuple[Batch, int]] = {}  # number of a publication -> batch and index
        self._channel: Any = channel
        self._exchange = exchange
        self._number = 0
        self._names = secrets.token_hex(8)
        self._numbers: dict[str, int] = {}  # id of a message -> number
        self.ended = False
        self._error: BaseException | None = None
        setattr(channel, "_on_confirm_frame", self._confirmed)  # noqa: B010 - its type forbids it
        setattr(channel, "_on_return_frame", self._returned)  # noqa: B010
        self._ending = channel.closing
        self._ending.add_done_callback(self._end)

    def why(self, seconds: float) -> WriteError:
        """Return what to say of entries that did not come out."""
        if self.ended:
            return WriteError(
                f"perhaps written, perhaps not: RabbitMQ at {self.line.host}: {describe(self._error)}"
            )
        blocked = ", which has blocked publishers: it is short of memory or disk" if self.line.blocked else ""
        return WriteError(
            f"not confirmed within {seconds:g} s by RabbitMQ at {self.line.host}{blocked}; perhaps written, perhaps not"
        )

    async def publish(self, batch: Batch) -> None:
        """Publish a batch and wait until all of it has come out; cancelled, some has not."""
        portion: list[Any] = []
        size = 0
        for entry in batch.entries:
            try:
                portion.append(self._pack(entry))
            except (TypeError, ValueError, AttributeError, UnicodeError) as error:
                batch.settle(entry.index, WriteError(f"AMQP cannot carry it: {error}", permanent=True))
                continue
            self._number += 1
            self.pending[self._number] = (batch, entry.index)
            self._numbers[entry.properties.message_id or ""] = self._number
            size += len(portion[-1])
            if size > AT_ONCE:
                await self._put(portion)
                portion, size = [], 0
        if portion:
            await self._put(portion)
        await batch.done.wait()

    async def _put(self, portion: Sequence[bytes]) -> None:
        if not self.ended:
            await self._channel.write_queue.put(ChannelFrame(payload=b"".join(portion), should_close=False))

    def _pack(self, entry: Entry) -> bytes:
        number = self._channel.number
        entry.properties.message_id = f"{self._names}-{self._number + 1}"
        exchange = place(self._exchange, entry.wait) if entry.wait else self._exchange
        frames: tuple[Any, ...] = (
            spec.Basic.Publish(exchange=exchange, routing_key=entry.routing_key, mandatory=True),
            ContentHeader(properties=entry.properties, body_size=len(entry.body)),
            *map(ContentBody, self._split(entry.body)),
        )
        packed = [pamqp_frame.marshal(frame, number) for frame in frames]
        if (
            len(packed[1]) > self._channel.max_content_size
        ):  # the server would end the connection, each time anew
            raise ValueError(
                f"key and headers take {len(packed[1])} bytes; the server takes {self._channel.max_content_size}"
            )
        return b"".join(packed)

    def _split(self, body: bytes) -> Iterator[bytes]:
        most = self._channel.max_content_size
        for start in range(0, len(body), most):
            yield body[start : start + most]

    async def _confirmed(self, frame: spec.Basic.Ack | spec.Basic.Nack) -> None:
        tag = frame.delivery_tag or 0
        if frame.multiple:
            tags = [number for number in self.pending if number <= tag]
        else:
            tags = [tag] if tag in self.pending else []
        refused = isinstance(frame, spec.Basic.Nack)
        for number in tags:
            batch, index = self.pending.pop(number)
            batch.settle(
                index, WriteError("RabbitMQ refused it: the queue is full or has failed") if refused else None
            )
        if not self.pending:
            self._numbers.clear()

    async def _returned(self, frame: spec.Basic.Return) -> None:
        header = await self._channel._get_frame()
        await self._channel._read_content(frame, header)
        number = self._numbers.get(header.properties.message_id or "")
        if number is None or number not in self.pending:
            log.error("a message came back that was not under way: %s", frame.reply_text)
            return
        batch, index = self.pending[number]  # its confirm follows, and means only that it was handled
        where = f"exchange {frame.exchange!r}" if frame.exchange else "the default exchange"
        batch.settle(
            index,
            WriteError(
                f"unroutable ({frame.reply_text}): no queue takes what is sent to {where} with routing key "
                f"{frame.routing_key!r}"
            ),
        )

    def _end(self, future: Any) -> None:
        self.ended = True
        self._error = None if future.cancelled() else future.exception()
        why = self.why(0)
        for batch, index in tuple(self.pending.values()):
            batch.settle(index, why)
