"""Openings: nothing of a partition is fetched before the broker knows that its assignment has begun.

It stands apart from the ledger, which has the word to say, and from intake, which fetches: it has one wait for the other.
Else a message that ends its process at once would end one after the other, none of which had said that it was there.

Invariants:

- F1. Of an assignment that has to say that it has opened its position, nothing is fetched before the broker has confirmed
  that. The price is one settlement for each assignment, or for all that begin together.
- F2. No partition waits for another, and none for longer than :data:`PATIENCE`: while a broker takes no settlements work
  goes on all the same, and a crash by then may go uncounted.
"""

from __future__ import annotations

from collections.abc import Sequence

from pythia_core.clock import Clock
from pythia_core.contracts.message import Partition
from pythia_core.contracts.settlement import Settlement
from pythia_core.engine.committer import Committer
from pythia_core.engine.intake import Intake
from pythia_core.engine.ledger import Ledger

PATIENCE = 5.0  # seconds


class Openings:
    """Opens partitions to intake, at once or when the broker has confirmed what is to be said first.

    Args:
        intake: which asks for open partitions.
        committer: which says it.
        clock: monotonic seconds.
    """

    def __init__(self, intake: Intake, committer: Committer, clock: Clock) -> None:
        self._intake = intake
        self._committer = committer
        self._clock = clock
        self._waiting: dict[Partition, tuple[Ledger, float]] = {}  # and until when at the longest

    def add(self, ledger: Ledger) -> None:
        """Begin with the ledger of a new assignment."""
        if ledger.clean:
            self._intake.open(ledger)
            return
        self._waiting[ledger.partition] = ledger, self._clock() + PATIENCE
        self._committer.dirty.add(ledger)
        self._committer.soon()

    def confirmed(self, settlements: Sequence[Settlement]) -> None:
        """Open those of which the broker has taken a settlement."""
        if self._waiting:
            told = {(each.partition, each.assignment) for each in settlements}
            waiting = [ledger for ledger, _ in self._waiting.values()]
            self._open([each for each in waiting if (each.partition, each.assignment.id) in told])

    def look(self) -> None:
        """Open those that have waited long enough."""
        if self._waiting:
            now = self._clock()
            self._open([ledger for ledger, until in self._waiting.values() if now >= until])

    def _open(self, ledgers: Sequence[Ledger]) -> None:
        for ledger in ledgers:
            del self._waiting[ledger.partition]
            if not (ledger.closed or ledger.draining):
                self._intake.open(ledger)
