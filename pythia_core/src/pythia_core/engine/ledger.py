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
offsets, and entry ids and delivery tags are not dense at all. One small number says what became of a message, and that is
all that the hot path stores. Where a position is committed the numbers are bytes, so that the watermark is a ``find``
(memchr); where messages are named one by one an open message stands for itself until its outcome takes its place, so that
the ledger lets go of a message with the same store.

The two kinds stand in :mod:`~pythia_core.engine.offset_ledger` and :mod:`~pythia_core.engine.token_ledger`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

from pythia_core.contracts.message import Message, Partition, Position
from pythia_core.contracts.settlement import Assignment, Settlement

OPEN, DONE, REJECTED, RELEASED, SETTLED = range(5)
FINISHED = bytes((DONE, REJECTED, RELEASED, SETTLED))

SIZE, POSITION = attrgetter("size"), attrgetter("position")

Decode = Callable[[Message[Any]], Any]


def _mask(*states: int) -> bytes:
    """Return a translation table that turns the given states into 1 and all others into 0."""
    return bytes(1 if state in states else 0 for state in range(256))


IS_UNSETTLED = _mask(OPEN, DONE, REJECTED, RELEASED)
IS_WORKED_OFF = _mask(DONE, REJECTED)
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

    state: Any  # what became of each message, from base: a bytearray, or a list in which an open message is itself

    __slots__ = (
        "assignment",
        "base",
        "closed",
        "decode",
        "draining",
        "lanes",
        "leaving",
        "partition",
        "partly_done",
        "sizes",
        "state",
        "stopped",
        "suspicious",
    )

    def __init__(self, partition: Partition, assignment: Assignment, decode: Decode) -> None:
        self.partition = partition
        self.assignment = assignment
        self.decode = decode
        self.base = 0  # the number of the message that state[0] is about
        self.sizes: list[int] = []  # bytes of each body, beside state
        self.lanes: dict[Hashable, Message[Any]] = {}
        self.closed = False
        self.draining = False
        self.leaving = False  # it ends in good order, with its last settlement
        self.partly_done = False  # some of what was admitted last is done already
        self.suspicious = False  # what comes next may have ended processes: it runs alone
        self.stopped: str | None = None  # why this partition may not go on, if so

    @property
    def head(self) -> int:
        """The number the next admitted message gets."""
        return self.base + len(self.state)

    def mark(self, message: Message[Any], state: int) -> None:
        """Write down what became of a message. The hot path does the same in line."""
        self.state[message._sequence - self.base] = state

    def note_attempts(self, message: Message[Any], count: int) -> None:
        """Remember how often a message has failed, where that can be kept for whoever gets it next."""

    def open_count(self) -> int:
        """Return how many messages are open."""
        return self.outcomes().count(OPEN)

    def open_bytes(self) -> int:
        """Return the bytes of the bodies of all open messages."""
        return sum(compress(self.sizes, self.outcomes().translate(IS_OPEN)))

    def close(self) -> None:
        """Raise the fence: from now on nothing of this ledger is settled."""
        self.closed = True

    @abstractmethod
    def outcomes(self) -> bytes | bytearray:
        """Return what became of each message, one byte each, from ``base``; look at it before the next await."""

    @abstractmethod
    def admit(self, messages: Sequence[Message[Any]], position: Position | None) -> int:
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


Entry = tuple[Ledger, Sequence[Message[Any]], int]
"""Messages that a ledger has entered, and the number of the first of them."""
