"""The ledger of a partition whose source acknowledges by a committed position: a watermark over numbered messages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from pythia_core.contracts.message import Message, Partition, Position
from pythia_core.contracts.settlement import Assignment, Settlement
from pythia_core.engine.ledger import OPEN, SIZE, Decode, Ledger

COMPACT = 64  # finished messages at the head before they are dropped: with 8,192 a thousand partitions kept eight million
IN_DOUBT = object()
NOWHERE: Any = None  # equals no distance


class OffsetLedger(Ledger):
    """For sources that acknowledge by a committed position.

    ``segments`` map numbers to positions: a segment ``(number, position)`` covers messages whose positions follow one
    another without a gap, which is nearly always a single one.
    """

    __slots__ = ("_ahead", "_low", "_offered", "_segments", "_settled", "_told", "committed", "end")

    def __init__(self, partition: Partition, assignment: Assignment, decode: Decode) -> None:
        super().__init__(partition, assignment, decode)
        self.state: bytearray = bytearray()
        self.end: Position | None = assignment.position  # the position after everything admitted
        self.committed: Position | None = assignment.position
        self._told: object = None  # the note that the broker is known to have beside the committed position
        self._low = 0  # the watermark when it was last looked at, as a number
        self._offered = 0  # the watermark when the last settlement was made
        self._settled = 0  # the watermark of the last settlement that the broker took
        self._segments: list[tuple[int, int]] = []
        self._ahead = NOWHERE  # of its number, the position of each message in the last segment

    def outcomes(self) -> bytearray:
        return self.state

    def admit(self, messages: Sequence[Message[Any]], position: Position | None) -> int:
        first, count = self.base + len(self.state), len(messages)
        if count == 1:  # as of each of many partitions: this takes 0.2 us and what is below 0.4
            start = last = messages[0].position
            self.state.append(OPEN)
            self.sizes.append(messages[0].size)
        elif count:
            start, last = messages[0].position, messages[-1].position
            self.state += bytes(count)
            self.sizes += map(SIZE, messages)
        else:
            self.end = self.end if position is None else position
            return first
        if start - first != self._ahead or last - start != count - 1:
            self._extend_segments(messages, first)
        self.end = last + 1 if position is None else position
        return first

    def _extend_segments(self, messages: Sequence[Message[Any]], first: int) -> None:
        for number, message in enumerate(messages, first):
            ahead = message.position - number
            if ahead != self._ahead:
                self._ahead = ahead
                self._segments.append((number, message.position))

    def watermark(self) -> int:
        """Return the number of the first open message, or the head."""
        state, base = self.state, self.base
        found = state.find(OPEN, self._low - base)
        self._low = low = base + (len(state) if found < 0 else found)
        return low

    def position_of(self, number: int) -> Position | None:
        """Return the position of message ``number``, or the end of the ledger for its head."""
        if number == self.base + len(self.state):
            return self.end
        if number >= self._segments[-1][0]:  # as nearly always
            return number + self._ahead
        segment, position = self._segments[bisect_right(self._segments, (number, float("inf"))) - 1]
        return position + number - segment

    def span(self) -> int:
        return self.head - self.watermark()

    def settlement(self, *, renew: bool = False) -> Settlement | None:
        if self.closed:
            return None
        self._offered = low = self.watermark()
        through = self.position_of(low)
        note = None if through is None else self._note(through)
        if through == self.committed and note == self._told:
            return None
        self._told = IN_DOUBT  # until it is heard of: what it says may be taken back, and the broker may have it by then
        return Settlement(self.partition, self.assignment.id, through=through, note=note)

    def _note(self, through: Position) -> str | None:
        """Return what is to stand beside the position of the watermark as it was last looked at, if anything."""
        return None

    def settled(self, settlement: Settlement) -> int:
        self.committed, self._told = settlement.through, settlement.note
        covered, self._settled = self._offered - self._settled, self._offered
        self._compact()
        return covered

    def _compact(self) -> None:
        done = self._low - self.base
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
        end = (
            self.end
        )  # nothing but the last settlement of all that was admitted brings the committed position here
        return self.committed == end and self._told == (None if end is None else self._note(end))
