"""What is held back for its delay: in a sorted set beside its stream, moved into the stream by whoever reads it.

Redis has no timer of its own, so a reader looks: at once when it begins, when the next is due, and twice a second. It is
Lua that moves, so an entry is either held back or in the stream, whoever dies and whenever.

D1. An entry is moved when it is due by the server's clock, not before, and once.
D2. While some reader of the stream runs, of whatever group, what is due is moved within half a second.
"""

from __future__ import annotations

import secrets
from typing import Final

import anyio

from pythia_redis.connection import Wire, pack
from pythia_redis.group import log
from pythia_redis.scripts import DUE, HOLD

LOOK_SECONDS: Final = 0.5
REFUSED_SECONDS: Final = 10.0
MOST_AT_ONCE: Final = 200  # entries; a look serves nobody else meanwhile


def held_key(stream: str) -> str:
    """Return the key of the set, which a cluster keeps where it keeps the stream.

    A stream whose name has a ``}`` but no part between braces has no such key; on one server that changes nothing.
    """
    start = stream.find("{")
    tagged = start >= 0 and stream.find("}", start) > start + 1
    return f"{stream}:held" if tagged else f"{{{stream}}}:held"


def pack_held(stream: str, delay_ms: int, maxlen: int | None, fields: list[str | bytes]) -> bytes:
    """Return the command that holds an entry back.

    With the script's text and not its checksum: a server that did not know that would have it sent again, behind the rest
    of its batch.
    """
    call = (delay_ms, secrets.token_hex(12), "" if maxlen is None else maxlen, *fields)
    return pack(("EVAL", HOLD.text, 1, held_key(stream), *call))


class Held:
    """Moves what is due of one stream.

    Args:
        wire: the reader's connection.
        stream: the key of the stream.
    """

    def __init__(self, wire: Wire, stream: str) -> None:
        self._wire = wire
        self._keys = (stream, held_key(stream))
        self._look_at = 0.0
        self._refused = False

    async def move_due(self, wait: float) -> float:
        """Move what is due, if it is time to look, and return for how long a read may wait, at most ``wait`` seconds.

        A server that refuses (it is full, or we may not) is asked again, and reading goes on: that is what makes room.

        Raises:
            ConnectionLost: if there was no answer; what is due was moved, or was not.
        """
        now = anyio.current_time()
        if now >= self._look_at:
            self._look_at = now + await self._move()
        return min(wait, max(self._look_at - now, 0.0))

    async def _move(self) -> float:
        """Move what is due, and return in how many seconds to look again."""
        (answer,) = await self._wire.run(DUE, self._keys, (MOST_AT_ONCE,))
        if isinstance(answer, Exception):
            if not self._refused:
                log.warning("what is held back and due cannot be moved into %r: %s", self._keys[0], answer)
            self._refused = True
            return REFUSED_SECONDS
        self._refused = False
        moved, left = answer
        if moved == MOST_AT_ONCE:
            return 0.0
        return LOOK_SECONDS if left < 0 else min(left / 1000, LOOK_SECONDS)
