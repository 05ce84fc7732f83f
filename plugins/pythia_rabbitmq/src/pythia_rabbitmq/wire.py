"""Takes deliveries out of what a server sends, before aiormq sees them; everything else is handed on to it unchanged.

aiormq awaits nine times for a delivery, each of its three frames goes through two queues, and all fourteen properties are
read, at which nobody may ever look: that was 25 of the 36 microseconds that a message cost. Here its frames are cut out of
what one read brought, and are read when somebody asks (:mod:`~pythia_rabbitmq.message`).

W1. Of what comes every byte that belongs to no delivery of the channel is handed on, in its order, a frame as a whole.
W2. A delivery is handed over once, in its order, when all of it is there, however it was cut in pieces on its way.
W3. In place of deliveries a heartbeat is handed on: with each piece of what came, so that aiormq, which takes a server that
    it hears nothing of for dead, hears of it.
W4. What is no frame is handed on, with all that follows: aiormq says what is wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Final

from pythia_rabbitmq.message import RabbitMQMessage

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8  # kinds of frames
KINDS: Final = frozenset((METHOD, HEADER, BODY, HEARTBEAT))
START: Final = 7  # bytes before what a frame carries: kind, channel, size
END: Final = 0xCE  # the byte behind it
DELIVER: Final = b"\x00\x3c\x00\x3c"  # class and method of basic.deliver
SIGN_OF_LIFE: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
CONTENT: Final = 12  # bytes before the properties: class, weight, size of the body

_start = Struct(">BHI").unpack_from
_size = Struct(">Q").unpack_from

Taker = Callable[[RabbitMQMessage], None]


class Wire:
    """Cuts what comes into frames.

    Args:
        hand_on: takes what is not a delivery.
    """

    def __init__(self, hand_on: Callable[[bytes], None]) -> None:
        self._hand_on = hand_on
        self._rest = b""  # the beginning of a frame
        self._broken = False
        self._channel = -1  # no channel's
        self._taker: Taker = _nobody
        self._came: Callable[[], None] = _nothing
        self._delivery: bytes | None = None  # the one that is on its way
        self._properties = b""
        self._parts: list[bytes] = []
        self._missing = 0  # bytes of its body

    def take(self, channel: int, taker: Taker, came: Callable[[], None]) -> None:
        """Hand the deliveries of a channel to a taker, and then call ``came``."""
        self._channel, self._taker, self._came = channel, taker, came

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        if self._broken:
            self._hand_on(data)
            return
        if self._rest:
            data = self._rest + data
        others: list[bytes] = []
        position = beginning = 0  # of the frame; of what is handed on with it
        last = len(data) - START
        while position < last:
            kind, channel, size = _start(data, position)
            end = position + START + size
            if kind not in KINDS or (end < len(data) and data[end] != END):
                self._broken = True
                position = len(data)
                break
            if end >= len(data):
                break
            if channel == self._channel and self._is_taken(kind, data, position + START, end):
                others.append(data[beginning:position])
                beginning = end + 1
            position = end + 1
        self._rest = data[position:]
        if not others:
            self._hand_on(data[:position])
            return
        self._hand_on(b"".join((*others, SIGN_OF_LIFE, data[beginning:position])))
        self._came()

    def flush(self) -> None:
        """Hand on the beginning of a frame of which no more comes."""
        rest, self._rest = self._rest, b""
        self._hand_on(rest)

    def _is_taken(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Tell whether a frame is a part of a delivery, and take it."""
        if kind == METHOD:
            if data[start : start + 4] != DELIVER:
                return False
            self._delivery = data[start + 4 : end]
            return True
        if self._delivery is None:
            return False  # what belongs to a message that was asked for, or that comes back
        if kind == HEADER:
            (self._missing,) = _size(data, start + 4)
            self._properties = data[start + CONTENT : end]
        else:
            self._parts.append(data[start:end])
            self._missing -= end - start
        if self._missing <= 0:
            self._complete(self._delivery)
        return True

    def _complete(self, delivery: bytes) -> None:
        parts, self._parts, self._delivery = self._parts, [], None
        self._taker(
            RabbitMQMessage(delivery, self._properties, parts[0] if len(parts) == 1 else b"".join(parts))
        )


class WireProtocol(asyncio.StreamReaderProtocol):
    """Feeds a wire, and the reader behind it with what it hands on.

    Args:
        reader: aiormq's.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self.wire = Wire(super().data_received)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self.wire.feed(data)

    def eof_received(self) -> bool | None:
        """Let aiormq see that a frame was cut off."""
        self.wire.flush()
        return super().eof_received()


def _nobody(message: RabbitMQMessage) -> None:
    raise AssertionError("a delivery that nobody takes")


def _nothing() -> None:
    pass
