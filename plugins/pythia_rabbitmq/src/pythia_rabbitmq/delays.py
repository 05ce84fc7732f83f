"""Where outputs are held back for their delay: a queue for each delay, whose messages go on when their time there is over.

A queue's messages all have the same time in it, so the first one is the first that is due and holds up nobody. It is a
quorum queue that lets a message go only when where it goes to has confirmed it, and it has no end of its own: one that
expires takes with it what it still holds. Messages get there by an exchange that leads nowhere else, and so keep the routing
key with which they go on.

Y1. What a queue for a delay has confirmed goes on to its exchange when its time is over, at least once.
Y2. Nothing is published to a queue that was just made before a kill of the server would no longer lose it.
Y3. There are at most 90 such queues for delays of the same number of digits, for each exchange.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import aiormq
import anyio

from pythia_rabbitmq.connection import Line, NotThere, log
from pythia_rabbitmq.queues import declare, must_be_there, on_channel

LONGEST: Final = 4_200_000_000  # milliseconds, 48 days; AMQP's times have 32 bits
NEW_SECONDS: Final = (
    4.0  # RabbitMQ 3.10 that is killed within about 3 s of making a quorum queue forgets what is in it
)
MANY: Final = 50  # delays of one producer that each want a queue of their own


def rounded(wait_ms: int) -> int:
    """Return a delay rounded up to two digits: 1,234 ms become 1,300."""
    unit: int = 10 ** max(len(str(wait_ms)) - 2, 0)
    return -(-wait_ms // unit) * unit


def place(exchange: str, wait_ms: int) -> str:
    """Return what exchange and queue are called that hold messages back before they go on to an exchange."""
    return f"pythia.delay.{wait_ms}" + (f".{exchange}" if exchange else "")


class Delays:
    """Makes the places of an exchange, each once on a connection.

    Args:
        exchange: where messages go on to; empty is the default one.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._made: set[int] = set()
        self._line: Line | None = None
        self._warned = False

    async def make(self, line: Line, waits: Collection[int]) -> None:
        """Make the places for delays in milliseconds that are not there.

        Raises:
            Mismatch: if one is there that is not as we make them.
            ConnectionLost: if that cannot be done.
        """
        if line is not self._line:  # on a new connection it may be a new server too
            self.forget()
            self._line = line
        missing = sorted(set(waits) - self._made)
        new = [await self._make(line, wait) for wait in missing]
        if any(new):
            await anyio.sleep(NEW_SECONDS)
        self._made.update(missing)
        if len(self._made) >= MANY and not self._warned:
            self._warned = True
            log.warning(
                "%d different delays to exchange %r, each of which has a queue: round them to fewer",
                len(self._made),
                self._exchange,
            )

    def forget(self) -> None:
        """Make all of them again when they are needed next: one of them may be gone."""
        self._made.clear()

    async def _make(self, line: Line, wait: int) -> bool:
        """Make one place, and return whether its queue was not there."""
        name = place(self._exchange, wait)
        new = not await _is_there(line, name)
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": wait,
            "x-dead-letter-exchange": self._exchange,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # which that strategy asks for
        }
        await declare(line, name, arguments=arguments)

        async def lead_there(channel: aiormq.Channel) -> Any:
            await channel.exchange_declare(name, exchange_type="fanout", durable=True)
            await channel.queue_bind(name, name)

        await on_channel(line, f"making exchange {name!r}", lead_there)
        return new


async def _is_there(line: Line, queue: str) -> bool:
    try:
        await must_be_there(line, queue)
    except NotThere:
        return False
    return True
