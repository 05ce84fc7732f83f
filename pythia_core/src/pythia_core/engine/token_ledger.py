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
    POSITION,
    SETTLED,
    SIZE,
    Decode,
    Ledger,
)

SPARSE = 1024  # settled messages among open ones before they are taken out, which numbers the others anew


class TokenLedger(Ledger):
    """For sources that acknowledge each message, or both ways.

    It keeps positions, since it has to name them, and of the messages only those that are open: to keep what is done until
    it is settled, bodies and all, cost a sixth of a Redis worker's time and more where the collector is not tuned. A
    message that stays open for long keeps little behind it: what is settled leaves at once at the head, and from the
    middle when there is much of it.
    """

    __slots__ = ("_both", "_gaps", "_offered", "_positions")

    def __init__(
        self, partition: Partition, assignment: Assignment, decode: Decode, *, both: bool = False
    ) -> None:
        super().__init__(partition, assignment, decode)
        self._both = both
        self.state: list[Message[Any] | int] = []
        self._positions: list[Position] = []  # beside state
        self._offered = b""  # the outcomes when the last settlement was made
        self._gaps = 0  # how many in state are settled

    def outcomes(self) -> bytes:
        return bytes([each if isinstance(each, int) else OPEN for each in self.state])

    def admit(self, messages: Sequence[Message[Any]], position: Position | None) -> int:
        first = self.head
        self.state += messages
        self.sizes += map(SIZE, messages)
        self._positions += map(POSITION, messages)
        return first

    def span(self) -> int:
        return 0  # an open message holds up no other one

    def settlement(self, *, renew: bool = False) -> Settlement | None:
        if self.closed:
            return None
        self._offered = state = self.outcomes()
        prefix = len(state) - len(state.lstrip(bytes((DONE, SETTLED)))) if self._both else 0
        done = state.find(DONE, 0, prefix) >= 0
        made = Settlement(
            self.partition,
            self.assignment.id,
            through=self._positions[prefix - 1] if done else None,
            beyond=self._in_state(state, IS_DONE, prefix),
            released=self._in_state(state, IS_RELEASED),
            rejected=self._in_state(state, IS_REJECTED),
            renewed=self._in_state(state, IS_OPEN) if renew else (),
        )
        return made if done or made.beyond or made.released or made.rejected or made.renewed else None

    def _in_state(self, state: bytes, table: bytes, start: int = 0) -> tuple[Position, ...]:
        if not state.translate(table).count(1, start):
            return ()
        return tuple(compress(islice(self._positions, start, None), state[start:].translate(table)))

    def settled(self, settlement: Settlement) -> int:
        offered, self._offered = self._offered, b""
        covered = len(offered) - offered.count(OPEN) - offered.count(SETTLED)
        rest = offered.lstrip(FINISHED)
        self._drop_head(len(offered) - len(rest))
        for index in compress(range(len(rest)), rest):
            self.state[index] = SETTLED
        self._gaps = len(rest) - rest.count(OPEN)
        if self._gaps >= SPARSE:
            self._keep(self.outcomes().translate(IS_UNSETTLED))
        return covered

    def _drop_head(self, count: int) -> None:
        del self._positions[:count], self.state[:count], self.sizes[:count]
        self.base += count

    def _keep(self, mask: bytes) -> None:
        """Take out what ``mask`` does not keep and number the rest anew, which only open messages know of."""
        self._positions = list(compress(self._positions, mask))
        self.sizes = list(compress(self.sizes, mask))
        self.state = list(compress(self.state, mask))
        self._gaps = self.outcomes().count(SETTLED)
        for number, message in enumerate(self.state, self.base):
            if not isinstance(message, int):
                message._sequence = number

    def refuse(self, positions: Iterable[Position]) -> list[Message[Any]]:
        names = set(positions)
        struck = [position in names for position in self._positions]
        still_open = [each for each in compress(self.state, struck) if not isinstance(each, int)]
        self._keep(bytes(not gone for gone in struck))
        return still_open

    @property
    def clean(self) -> bool:
        return self._gaps == len(self.state)
