"""The ledger of a partition whose source acknowledges each message, or both ways: it names positions one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress, islice
from typing import Any

from pythia_core.contracts.message import Message, Partition, Position
from pythia_core.contracts.settlement import Assignment, Settlement
from pythia_core.engine.ledger import (
    DONE,
    FINISHED,
    IS_DONE,
    IS_OPEN,
    IS_REJECTED,
    IS_RELEASED,
    IS_UNSETTLED,
    OPEN,
    SETTLED,
    SIZE,
    Decode,
    Ledger,
)

SPARSE = 1024  # settled messages among open ones before they are taken out, which numbers the others anew


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
