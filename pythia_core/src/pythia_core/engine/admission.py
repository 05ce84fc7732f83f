"""What becomes of a chunk when it arrives: it is run, set aside until a stop knows more, or given back.

It stands apart from the session because it is on every message's way, and the session's life is not.

A fetch may bring one message of each of a thousand partitions, so what is done for a chunk is nearly as dear as what is
done for a message. What can be done for all chunks of a fetch at once is: to count them, and to hand them on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pythia_core.contracts.message import Message
from pythia_core.contracts.settlement import Chunk
from pythia_core.engine.ledger import OPEN, RELEASED, SIZE, Entry, Ledger
from pythia_core.engine.outcomes import MessageTooLarge
from pythia_core.engine.parking import NEVER
from pythia_core.engine.token_ledger import TokenLedger

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine
    from pythia_core.engine.session import Session


class Admission:
    """Enters chunks into their ledgers, and hands them to the rest of the engine.

    Args:
        engine: whose scheduler, parking place and counters.
        session: whose ledgers, intake and committer, and how far it has come.
    """

    def __init__(self, engine: Engine, session: Session) -> None:
        self._engine = engine
        self._session = session

    def admit(self, chunks: Iterable[Chunk]) -> None:
        """Enter what a fetch brought: the one way into the engine."""
        session = self._session
        ledgers, dirty, closing = session.ledgers, session.committer.dirty, session.closing
        bound, suspects = self._engine.settings.limits.message_bytes, self._engine.suspects
        watches = suspects.watches
        entries: list[Entry] = []
        total = 0  # bytes
        for chunk in chunks:
            ledger, messages = ledgers.get(chunk.partition), chunk.messages
            if ledger is None or ledger.closed:
                continue  # no longer ours: whoever has the partition now gets them
            first = ledger.admit(messages, chunk.position)
            dirty.add(ledger)
            if closing or ledger.draining:
                self._not_to_be_run(ledger, messages, first)
                continue
            if not messages:
                continue
            size = messages[0].size if len(messages) == 1 else sum(ledger.sizes[first - ledger.base :])
            total += size
            singly = ledger.partly_done or ledger.suspicious or (watches and suspects.among(messages))
            if singly or (size > bound and max(map(SIZE, messages)) > bound):
                self._take_in(entries)
                entries = []
                self._take_in_singly(ledger, messages, first)
            else:
                entries.append((ledger, messages, first))
        self._take_in(entries)
        self._session.intake.bytes_admitted(total)

    def _take_in(self, entries: Sequence[Entry]) -> None:
        """Queue messages to be run."""
        if entries:
            self._count(entries)
            self._engine.scheduler.admit(entries)

    def _count(self, entries: Sequence[Entry]) -> None:
        self._engine.stats.received += sum([len(messages) for _, messages, _ in entries])
        self._session.committer.busy()
        self._session.intake.admitted(entries)

    def _take_in_singly(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        """Admit messages of which some are done already, suspects, or too large: those become dead letters, by reference."""
        self._count([(ledger, messages, first)])
        bound = self._engine.settings.limits.message_bytes
        for number, message in self._not_done(ledger, messages, first):
            if message.size <= bound:
                if ledger.suspicious:
                    self._engine.line.take_in(ledger, message, number)
                elif not self._engine.suspects.take_in(ledger, message, number):
                    self._engine.scheduler.admit([(ledger, (message,), number)])
                continue
            message._ledger, message._sequence, message._lane = ledger, number, None
            self._engine.disposition.failed(
                message, MessageTooLarge(f"{message.size} bytes; limits.message_bytes is {bound}")
            )

    def _not_done(
        self, ledger: Ledger, messages: Sequence[Message[Any]], first: int
    ) -> Sequence[tuple[int, Message[Any]]]:
        """Return messages with their numbers, but for those that are done by a note: those are finished."""
        if not ledger.partly_done:
            return list(enumerate(messages, first))
        outcomes = ledger.outcomes()
        left = [each for each in enumerate(messages, first) if outcomes[each[0] - ledger.base] == OPEN]
        self._engine.stats.finished += len(messages) - len(left)
        return left

    def _not_to_be_run(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        if self._session.draining or ledger.draining:
            self._turn_away(ledger, messages, first)
        else:
            self._set_aside(ledger, messages, first)

    def _turn_away(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        """Give back what arrived after the last call: it is not run."""
        left, stats = self._not_done(ledger, messages, first), self._engine.stats
        for number, message in left:
            message._ledger, message._sequence = ledger, number
            if isinstance(ledger, TokenLedger):
                ledger.mark(message, RELEASED)
        stats.received += len(messages)
        stats.finished += len(left)
        stats.released += len(left)

    def _set_aside(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        """Park for ever what arrives before the client has stopped: released any earlier it would come straight back."""
        self._engine.stats.received += len(messages)
        for number, message in self._not_done(ledger, messages, first):
            message._ledger, message._sequence, message._lane = ledger, number, None
            self._engine.parking.park(message, NEVER)
