"""The ledger of a partition whose source keeps a note beside the committed position.

It stands apart from :mod:`~pythia_core.engine.offset_ledger` so that sources without notes pay nothing for them.

Invariants:

- A1. What a note of this position says is done is not run again; it is finished when it arrives. What has not arrived
  when the assignment ends stands in the next note too.
- A2. Attempts go into the note while their message is open, and come back with it.
- A3. Each assignment writes, before anything of it is fetched, that it has opened its position: ``opened`` is one more than the note found there
  says, and 1 as soon as the position has moved. Only :attr:`Ledger.leaving`, the end in good order, writes 0. A note that
  this process wrote itself, before it lost the partition, is of no crash: it raises neither count.
- A4. A settlement carries the note of its position. A note that has changed is settled though the position has not, and
  one that the broker may not have heard is settled again (L5).
- A5. A position opened :data:`~pythia_core.contracts.source.SUSPECT_AFTER` times before, or beside which a message stands
  that ran alone, makes the ledger suspicious. Every note names that message until it is done, or another runs alone; an
  end in good order names the one that ran alone before: it was no crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pythia_core.contracts.message import Message, Partition, Position
from pythia_core.contracts.settlement import Assignment, Settlement
from pythia_core.contracts.source import SUSPECT_AFTER
from pythia_core.engine.ledger import DONE, IS_WORKED_OFF, OPEN, Decode
from pythia_core.engine.notes import REACH, Note, bare, read, write
from pythia_core.engine.offset_ledger import OffsetLedger
from pythia_core.engine.outcomes import restore_failures

Solo = tuple[int, int]  # a message that ran alone, by its position, and how often that was begun
Written = Mapping[
    str | None, Solo | None
]  # notes that the broker may have from us, and what they would say of no crash


class NotedLedger(OffsetLedger):
    """For sources that commit a position with a note.

    ``opened`` is how many assignments in a row, this one included, have begun at its position without an end in good
    order. ``solo`` is a message that an earlier assignment ran alone, by its position, and how often that began without an
    end; ``trying`` is the same for the one that runs alone now, or None. ``written`` is for the next assignment.

    Args:
        before: what an assignment of the partition that this process had has ``written``.
    """

    __slots__ = ("_attempts", "_earlier", "opened", "solo", "trying", "written")

    def __init__(
        self, partition: Partition, assignment: Assignment, decode: Decode, before: Written | None = None
    ) -> None:
        super().__init__(partition, assignment, decode)
        earlier = read(assignment.note, assignment.position)
        self.opened = 1 + (earlier.opened if earlier else 0)
        self.solo = earlier.solo if earlier else None
        self.written: Written = {}
        if earlier and before and assignment.note in before:
            self.opened = max(earlier.opened, 1)
            self.solo = before[assignment.note]
            self.written = {assignment.note: self.solo}
        self.trying: Solo | None = None
        self.suspicious = self.opened > SUSPECT_AFTER or self.solo is not None
        self._told = None if assignment.position is None else assignment.note
        self._earlier = earlier  # the note found, while messages that it speaks of may still come
        self._attempts: dict[int, int] = {}  # failed ones, by the number of a message

    def admit(self, messages: Sequence[Message[Any]], position: Position | None) -> int:
        first = super().admit(messages, position)
        self.partly_done = False
        if self._earlier is not None:
            self._restore(self._earlier, messages, first)
            if self._end >= self._earlier.end:
                self._earlier = None
        return first

    def _restore(self, note: Note, messages: Sequence[Message[Any]], first: int) -> None:
        for number, message in enumerate(messages, first):
            offset = message.position - note.base
            if 0 <= offset < len(note.done) and note.done[offset]:
                self.state[number - self.base] = DONE
                self.partly_done = True
            elif count := note.attempts.get(message.position):
                self._attempts[number] = count
                restore_failures(message, count)

    @property
    def _end(self) -> int:
        """The end, which has a position wherever there is a note."""
        assert self.end is not None
        return self.end  # type: ignore[no-any-return]

    def note_attempts(self, message: Message[Any], count: int) -> None:
        self._attempts[message._sequence] = count

    def settlement(self, *, renew: bool = False) -> Settlement | None:
        made = super().settlement(renew=renew)
        if made is not None:
            known = dict(
                list(self.written.items())[:1]
            )  # what was settled last; of what was not heard of, the latest
            self.written = {**known, made.note: self.solo}
        return made

    def settled(self, settlement: Settlement) -> int:
        self.written = {settlement.note: self.written[settlement.note]}
        return super().settled(settlement)

    def _note(self, through: Position) -> str | None:
        moved = through != self.assignment.position
        opened = 0 if self.leaving else 1 if moved else self.opened
        if self._says_no_more:
            return bare(through, opened) if opened else None
        done = self._done_beyond(through)
        note = Note(through, done, self._attempts_beyond(), opened, self._solo_beyond(through, done))
        return None if note == Note(through) else write(note)

    @property
    def _says_no_more(self) -> bool:
        """True if there is nothing to say of any message, as of most partitions where there are many."""
        if self._earlier is not None or self._attempts or self.trying or self.solo:
            return False
        state, low = self.state, self._low - self.base
        return state.count(OPEN, low) == len(state) - low

    def _solo_beyond(self, through: int, done: bytes) -> Solo | None:
        """Return the message that runs alone, or did before, unless it is done."""
        solo = self.solo if self.leaving else self.trying or self.solo
        if solo is None or solo[0] < through or done[solo[0] - through : solo[0] - through + 1] == b"\1":
            return None
        return solo

    def _done_beyond(self, through: int) -> bytes:
        """Return one byte for each offset from the watermark on: 1 where it is done, 0 also where there is none."""
        done = bytearray()
        for (number, position), (following, _) in pairwise([*self._segments, (self.head, 0)]):
            start = max(number, self._low)
            if start < following:
                mask = self.state[start - self.base : following - self.base].translate(IS_WORKED_OFF)
                _place(done, position + start - number - through, mask)
        if self._earlier is not None:
            _place(done, self._end - through, self._earlier.done[self._end - self._earlier.base :])
        return bytes(done.rstrip(b"\0"))

    def _attempts_beyond(self) -> Mapping[int, int]:
        low, base, state = self._low, self.base, self.state
        self._attempts = {n: c for n, c in self._attempts.items() if n >= low and state[n - base] == OPEN}
        attempts: dict[int, int] = {self.position_of(n): count for n, count in self._attempts.items()}  # type: ignore[misc]
        if self._earlier is not None:
            attempts |= {at: count for at, count in self._earlier.attempts.items() if at >= self._end}
        return attempts


def _place(done: bytearray, at: int, mask: bytes | bytearray) -> None:
    """Write a mask at an offset behind what is there. What does not come behind it, or too far, is left out."""
    if len(done) <= at < REACH:
        done += bytes(at - len(done))
        done += mask
