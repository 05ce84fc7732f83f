"""How much a group has left, asked without moving a single body over the network; and what, by reading past the group."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Final, Self

from pythia_core import Backlog, Inspector
from pythia_redis.connection import Wire
from pythia_redis.group import value
from pythia_redis.held import held_key
from pythia_redis.message import RedisMessage
from pythia_redis.options import Address
from pythia_redis.scripts import BACKLOG

MOST_COUNTED: Final = 10_000  # entries; 10 ms in which Redis serves nobody else
PAGE: Final = 500  # entries of one look
EARLIEST_CLOCK: Final = (
    1_262_304_000  # 2010 in seconds: before it there was no Redis stream, so an id below is no time
)
CLOCK_SLACK: Final = 86_400.0  # seconds by which an id may be ahead of the server's clock


class RedisInspector(Inspector):
    """Counts what a group has left.

    Args:
        address: the server.
        stream: the key of the stream.
        group: the consumer group.
        start_from: what a group that is not there yet will read.
    """

    def __init__(self, address: Address, stream: str, group: str, start_from: str = "earliest") -> None:
        self._wire = Wire(address, name=f"{stream}/inspect")
        self._stream = stream
        self._group = group
        self._start_from = start_from

    async def backlog(self) -> Backlog:
        """Return the backlog. Where Redis has lost count, up to 10,000 entries are counted, which is then a lower bound.

        Raises:
            ConnectionLost: if the server cannot be asked.
        """
        return await ask_backlog(self._wire, self._stream, self._group, self._start_from)

    async def browse(self) -> AsyncGenerator[RedisMessage]:
        """Yield the entries that the group has not settled, oldest first, page by page.

        Raises:
            ConnectionLost: if the server cannot be asked.
        """
        start = "-"
        while entries := await self._wire.call("XRANGE", self._stream, start, "+", "COUNT", PAGE):
            for entry in await self._unsettled(entries):
                yield RedisMessage(entry, deliveries=0)
            start = f"({entries[-1][0].decode()}"

    async def _unsettled(self, entries: list[Any]) -> list[Any]:
        """Return the entries that the group has not read, or has read and not acknowledged."""
        first, last = entries[0][0], entries[-1][0]
        groups, rows = await self._wire.pipeline(
            [
                ("XINFO", "GROUPS", self._stream),
                ("XPENDING", self._stream, self._group, first, last, len(entries)),
            ]
        )
        fields = [dict(zip(group[::2], group[1::2], strict=True)) for group in value(groups)]
        read = [group[b"last-delivered-id"] for group in fields if group[b"name"] == self._group.encode()]
        if not read:  # nobody has read anything as this group
            return entries
        pending = {row[0] for row in value(rows)}
        return [entry for entry in entries if entry[0] in pending or _order(entry[0]) > _order(read[0])]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()


async def ask_backlog(wire: Wire, stream: str, group: str, start_from: str = "earliest") -> Backlog:
    """Return what a group has left of a stream; see :class:`RedisInspector`.

    What was held back and is due counts, though it is not in the stream yet: it needs a reader to get there.
    """
    (answer,) = await wire.run(BACKLOG, stream, (group, MOST_COUNTED))
    known, lag, counted, pending, oldest, following, now = value(answer)
    if not known and start_from == "latest":
        return Backlog()  # what it is to read is decided when it is made
    (due,) = await wire.pipeline([("ZCOUNT", held_key(stream), "-inf", now * 1000)])
    return Backlog(
        waiting=(lag if lag >= 0 else counted) + (due if isinstance(due, int) else 0),
        in_flight=pending,
        at_least=lag < 0 and counted >= MOST_COUNTED,
        oldest_age_seconds=_age((oldest or following).decode(), now),
    )


def _order(position: bytes) -> tuple[int, int]:
    """Return an id as what ids are compared by: text would put 10-0 before 9-0."""
    time, _, number = position.partition(b"-")
    return int(time), int(number)


def _age(position: str, now: int) -> float | None:
    """Return how old an entry is by its id, or None if that is not a time: producers may choose ids themselves."""
    if not position:
        return None
    seconds = int(position.partition("-")[0]) / 1000
    if not EARLIEST_CLOCK < seconds < now + CLOCK_SLACK:
        return None
    return max(now - seconds, 0.0)
