"""The ledger of one assignment of a partition: what was admitted, what became of it, and what may be settled.

It is the fence. A message points at its ledger; revoking or losing a partition closes the ledger, and a completion
that comes late finds it closed and changes nothing that the broker is ever told.

Invariants, each checked by ``tests/engine/test_model.py``:

- L1. Nothing is settled that was not admitted here and finished here (no loss).
- L2. The watermark is the first message still open; everything before it is finished, and it never goes back.
- L3. A closed ledger makes no settlement.
- L4. A message gets one outcome in a ledger's life.
- L5. A settlement that failed or was not heard of is made again, unchanged or larger; one that succeeded is not.
- L6. An empty chunk moves the end of the ledger, so that a position that moves without records is settled too.

Messages are numbered in the order of their delivery, not by offset: compaction and transaction markers leave gaps in
offsets, and entry ids and delivery tags are not dense at all. One byte a message says what became of it, so that the
hot path stores one byte and the watermark is a ``find`` (memchr).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import compress, islice
from operator import attrgetter
from typing import Any

from pythia_core.contracts.message import Message, Partition, Position
from pythia_core.contracts.settlement import Assignment, Settlement

OPEN, DONE, REJECTED, RELEASED, SETTLED = range(5)
FINISHED = bytes((DONE, REJECTED, RELEASED, SETTLED))
SPARSE = (
    1024  # settled messages among open ones before they are taken out: it means numbering the others anew
)
COMPACT = (
    8192  # bytes of finished head before they are dropped: a memmove of 8 KiB costs less than a microsecond
)

SIZE = attrgetter("size")

Decode = Callable[[Message[Any]], Any]


def _mask(*states: int) -> bytes:
    """Return a translation table that turns the given states into 1 and all others into 0."""
    return bytes(1 if state in states else 0 for state in range(256))


IS_UNSETTLED = _mask(OPEN, DONE, REJECTED, RELEASED)
IS_OPEN, IS_DONE, IS_REJECTED, IS_RELEASED = (_mask(state) for state in (OPEN, DONE, REJECTED, RELEASED))


class Ledger(ABC):
    """What both kinds share: identity, the bytes, and the open keys.

    Args:
        partition: what was assigned.
        assignment: under which assignment; its id is named in every settlement.
        decode: turns a message's raw body into its body, for ``Message.body``.

    ``lanes`` are the open keys: a key is there while one of its messages is queued, running, parked or publishing. Its
    value is the key's last message; those before it are chained by ``Message._next``, so that a key costs no container.
    """

    __slots__ = (
        "assignment",
        "base",
        "closed",
        "decode",
        "draining",
        "lanes",
        "partition",
        "sizes",
        "state",
        "stopped",
    )

    def __init__(self, partition: Partition, assignment: Assignment, decode: Decode) -> None:
        self.partition = partition
        self.assignment = assignment
        self.decode = decode
        self.state: bytearray = bytearray()
        self.base = 0  # the number of the message that state[0] is about
        self.sizes: list[int] = []  # bytes of each body, beside state
        self.lanes: dict[Hashable, Message[Any]] = {}
        self.closed = False
        self.draining = False
        self.stopped: str | None = None  # why this partition may not go on, if so

    @property
    def head(self) -> int:
        """The number the next admitted message gets."""
        return self.base + len(self.state)

    def mark(self, message: Message[Any], state: int) -> None:
        """Write down what became of a message. The hot path does the same in line."""
        self.state[message._sequence - self.base] = state

    def open_bytes(self) -> int:
        """Return the bytes of the bodies of all open messages."""
        return sum(compress(self.sizes, self.state.translate(IS_OPEN)))

    def close(self) -> None:
        """Raise the fence: from now on nothing of this ledger is settled."""
        self.closed = True

    @abstractmethod
    def admit(self, messages: Sequence[Message[Any]], position: Position | None, now: float) -> int:
        """Enter messages as open; return the number of the first. The caller numbers them."""

    @abstractmethod
    def span(self) -> int:
        """Return how many messages lie between watermark and head: what a stop of intake is decided by."""

    @abstractmethod
    def settlement(self, *, renew: bool = False) -> Settlement | None:
        """Return what is to be settled now, or None if there is nothing. Nothing changes before :meth:`settled`."""

    @abstractmethod
    def settled(self, settlement: Settlement) -> int:
        """Note that the broker took ``settlement``; return how many messages it covered."""

    @abstractmethod
    def refuse(self, positions: Iterable[Position]) -> list[Message[Any]]:
        """Strike out messages that are no longer ours; return those still open."""

    @property
    @abstractmethod
    def clean(self) -> bool:
        """True if nothing is open and nothing waits to be settled."""

    @property
    @abstractmethod
    def since(self) -> float | None:
        """When the message that holds up a cumulative watermark was admitted, or None if none does."""


class OffsetLedger(Ledger):
    """For sources that acknowledge by a committed position.

    ``segments`` map numbers to positions: a segment ``(number, position)`` covers messages whose positions follow one
    another without a gap, which is nearly always a single one.
    """

    __slots__ = ("_admitted", "_low", "_offered", "_segments", "_settled", "committed", "end")

    def __init__(self, partition: Partition, assignment: Assignment, decode: Decode) -> None:
        super().__init__(partition, assignment, decode)
        self.end: Position | None = assignment.position  # the position after everything admitted
        self.committed: Position | None = assignment.position
        self._low = 0  # the watermark when it was last looked at, as a number
        self._offered = 0  # the watermark when the last settlement was made
        self._settled = 0  # the watermark of the last settlement that the broker took
        self._segments: list[tuple[int, int]] = []
        self._admitted: deque[tuple[int, float]] = deque()  # (number of a chunk's first message, when)

    def admit(self, messages: Sequence[Message[Any]], position: Position | None, now: float) -> int:
        first = self.head
        if messages:
            self._extend_segments(messages, first)
            self.state += bytes(len(messages))
            self.sizes += map(SIZE, messages)
            self._admitted.append((first, now))
        if position is not None:
            self.end = position
        elif messages:
            self.end = messages[-1].position + 1
        return first

    def _extend_segments(self, messages: Sequence[Message[Any]], first: int) -> None:
        segments = self._segments
        start: int = messages[0].position
        dense = messages[-1].position - start == len(messages) - 1
        if dense and segments and segments[-1][1] - segments[-1][0] == start - first:
            return
        if dense:
            segments.append((first, start))
            return
        expected = None
        for number, message in enumerate(messages, first):
            if message.position != expected:
                segments.append((number, message.position))
            expected = message.position + 1

    def watermark(self) -> int:
        """Return the number of the first open message, or the head."""
        found = self.state.find(OPEN, self._low - self.base)
        self._low = self.head if found < 0 else self.base + found
        return self._low

    def position_of(self, number: int) -> Position | None:
        """Return the position of message ``number``, or the end of the ledger for its head."""
        if number == self.head:
            return self.end
        segment, position = self._segments[bisect_right(self._segments, (number, float("inf"))) - 1]
        return position + number - segment

    def span(self) -> int:
        return self.head - self.watermark()

    def settlement(self, *, renew: bool = False) -> Settlement | None:
        if self.closed:
            return None
        self._offered = self.watermark()
        through = self.position_of(self._offered)
        if through is None or through == self.committed:
            return None
        return Settlement(self.partition, self.assignment.id, through=through)

    def settled(self, settlement: Settlement) -> int:
        self.committed = settlement.through
        covered, self._settled = self._offered - self._settled, self._offered
        self._compact()
        return covered

    def _compact(self) -> None:
        done = self._low - self.base
        while len(self._admitted) > 1 and self._admitted[1][0] <= self._low:
            self._admitted.popleft()
        if done < COMPACT or done < len(self.state) // 2:
            return
        del self.state[:done], self.sizes[:done]
        self.base = self._low
        keep = max(bisect_right(self._segments, (self._low, float("inf"))) - 1, 0)
        del self._segments[:keep]

    def refuse(self, positions: Iterable[Position]) -> list[Message[Any]]:
        raise NotImplementedError("a source that commits positions refuses whole assignments, not messages")

    @property
    def clean(self) -> bool:
        return self.watermark() == self.head and self.end == self.committed

    @property
    def since(self) -> float | None:
        low = self.watermark()
        if low == self.head:
            return None
        while len(self._admitted) > 1 and self._admitted[1][0] <= low:
            self._admitted.popleft()
        return self._admitted[0][1]


class TokenLedger(Ledger):
    """For sources that acknowledge each message, or both ways.

    It keeps the messages themselves, since it has to name their positions. A message that stays open for long keeps few
    behind it: what is settled leaves at once at the head, and from the middle when there is much of it.
    """

    __slots__ = ("_both", "_entries", "_offered")

    def __init__(
        self, partition: Partition, assignment: Assignment, decode: Decode, *, both: bool = False
    ) -> None:
        super().__init__(partition, assignment, decode)
        self._both = both
        self._entries: list[Message[Any]] = []  # by number, from base
        self._offered = b""  # the states when the last settlement was made

    def admit(self, messages: Sequence[Message[Any]], position: Position | None, now: float) -> int:
        first = self.head
        self.state += bytes(len(messages))
        self.sizes += map(SIZE, messages)
        self._entries += messages
        return first

    def span(self) -> int:
        return 0  # an open message holds up no other one

    def settlement(self, *, renew: bool = False) -> Settlement | None:
        if self.closed:
            return None
        self._offered = state = bytes(self.state)
        prefix = len(state) - len(state.lstrip(bytes((DONE, SETTLED)))) if self._both else 0
        done = state.find(DONE, 0, prefix) >= 0
        made = Settlement(
            self.partition,
            self.assignment.id,
            through=self._entries[prefix - 1].position if done else None,
            beyond=self._positions(state, IS_DONE, prefix),
            released=self._positions(state, IS_RELEASED),
            rejected=self._positions(state, IS_REJECTED),
            renewed=self._positions(state, IS_OPEN) if renew else (),
        )
        return made if done or made.beyond or made.released or made.rejected or made.renewed else None

    def _positions(self, state: bytes, table: bytes, start: int = 0) -> tuple[Position, ...]:
        if not state.translate(table).count(1, start):
            return ()
        chosen = compress(islice(self._entries, start, None), state[start:].translate(table))
        return tuple([message.position for message in chosen])

    def settled(self, settlement: Settlement) -> int:
        offered, self._offered = self._offered, b""
        covered = len(offered) - offered.count(OPEN) - offered.count(SETTLED)
        rest = offered.lstrip(FINISHED)
        self._drop_head(len(offered) - len(rest))
        for index in compress(range(len(rest)), rest):
            self.state[index] = SETTLED
        if self.state.count(SETTLED) >= SPARSE:
            self._keep(self.state.translate(IS_UNSETTLED))
        return covered

    def _drop_head(self, count: int) -> None:
        del self._entries[:count], self.state[:count], self.sizes[:count]
        self.base += count

    def _keep(self, mask: bytes | bytearray) -> None:
        """Take out what ``mask`` does not keep and number the rest anew, which only the messages know of."""
        self._entries = list(compress(self._entries, mask))
        self.sizes = list(compress(self.sizes, mask))
        self.state = bytearray(compress(self.state, mask))
        for number, message in enumerate(self._entries, self.base):
            message._sequence = number

    def refuse(self, positions: Iterable[Position]) -> list[Message[Any]]:
        names = set(positions)
        struck = [message.position in names for message in self._entries]
        still_open = [
            m
            for m, gone, state in zip(self._entries, struck, self.state, strict=True)
            if gone and state == OPEN
        ]
        self._keep(bytes(not gone for gone in struck))
        return still_open

    @property
    def clean(self) -> bool:
        return self.state.count(SETTLED) == len(self.state)

    @property
    def since(self) -> float | None:
        return None  # nothing waits for an open message here
