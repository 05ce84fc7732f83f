"""A cursor reads one partition as a log: a committed position, and whoever it is assigned to reads on from there.

This is cumulative acknowledgement, Kafka's: settling a position settles everything before it, so there is nothing to
remember about single messages. What was read and not committed is read again by the next owner.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pythia_core.brokers.memory.rules import Rules
from pythia_core.brokers.memory.topic import Log, Record
from pythia_core.contracts.settlement import Assignment, Settlement

MAX_NOTE = 4096  # characters; Kafka's default for offset metadata


@attrs.define(eq=False)
class Cursor:
    """What one group knows about one partition.

    Invariant: ``log.base <= committed <= position <= log.end``, and ``position == committed`` while nobody owns it.

    Args:
        log: what is read.
        rules: of the group.
        committed: everything before it is settled.
        position: everything before it has been delivered to the owner.
        owner: the id of the present assignment, or None.
        note: what was said beside the committed position.
    """

    log: Log
    rules: Rules
    committed: int = attrs.field(init=False)
    position: int = attrs.field(init=False)
    owner: int | None = None
    note: str | None = None

    def __attrs_post_init__(self) -> None:
        self.committed = self.position = self.log.base  # a new group starts at the earliest that is kept

    def assign(self, id: int) -> Assignment:
        """Give the partition to an assignment, from the committed position on."""
        self.owner = id
        return Assignment(id, self.committed, self.note)

    def close(self, id: int) -> None:
        """End an assignment: what it had not committed is waiting again."""
        self.owner = None
        self.position = self.committed

    def take(
        self, id: int, count: int, max_bytes: int, now: float, *, alone: bool = False
    ) -> list[tuple[Record, int, int]]:
        """Return the next records as ``(record, position, deliveries)``; a log counts none and so knows no suspects."""
        records = self.log.read(self.position, count, max_bytes)
        self.position += len(records)
        return [(record, record.offset, 0) for record in records]

    def settle(self, settlement: Settlement, now: float) -> Sequence[int]:
        """Commit; never back, and never past what was delivered. Refuses nothing of a live assignment.

        Released, rejected and renewed messages say nothing to a log: the position alone counts.

        Raises:
            ValueError: if the position was not handed over under this assignment or has been passed already, or if the
                note is too long or cannot be kept. Then nothing is committed.
        """
        through, note = settlement.through, settlement.note
        if note is not None and not self.rules.notes:
            raise ValueError("this group keeps no notes: make it with notes=True")
        if note is not None and len(note) > MAX_NOTE:
            raise ValueError(f"a note of {len(note)} characters; {MAX_NOTE} are allowed")
        if through is not None:
            self._commit(through)
        if through is not None or note is not None:
            self.note = note
        return ()

    def _commit(self, through: int) -> None:
        if not self.committed <= through <= self.position:
            raise ValueError(
                f"through={through} is outside of what may be committed: "
                f"{self.committed} (committed) to {self.position} (delivered)"
            )
        self.committed = through

    def position_in(self, partition: int) -> int:
        """Return the committed position."""
        return self.committed

    def move(self, partition: int, offset: int) -> None:
        """Commit a position in either direction, while nobody owns it. A note beside it would speak of the old one."""
        self.committed = self.position = offset
        self.note = None

    def expire(self, now: float) -> bool:
        """Return False: a log has no leases."""
        return False

    @property
    def next_expiry(self) -> float | None:
        """None: a log has no leases."""
        return None

    def unsettled(self, id: int) -> int:
        """Return how many messages an assignment has out."""
        return self.position - self.committed

    def settled_before(self, partition: int) -> int:
        """Return the offset before which everything is settled."""
        return self.committed

    def states(self) -> tuple[list[Record], list[Record], list[Record]]:
        """Return the records that are waiting, delivered, and settled."""
        read = self.log.read
        return (
            read(self.position, self.log.end),
            read(self.committed, self.position - self.committed),
            read(self.log.base, self.committed - self.log.base),
        )

    def counts(self) -> tuple[int, int, float | None]:
        """Return how many wait, how many are delivered, and when the oldest of them was published."""
        oldest = self.log.read(self.committed, 1)
        return (
            self.log.end - self.position,
            self.position - self.committed,
            oldest[0].published if oldest else None,
        )
