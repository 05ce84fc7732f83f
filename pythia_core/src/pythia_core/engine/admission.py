"""What becomes of a chunk when it arrives: it is run, set aside until a stop knows more, or given back.

It stands apart from the session because it is on every message's way, and the session's life is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pythia_core.contracts.message import Message
from pythia_core.contracts.settlement import Chunk
from pythia_core.engine.committer import Committer
from pythia_core.engine.intake import Intake
from pythia_core.engine.ledger import OPEN, RELEASED, Ledger
from pythia_core.engine.outcomes import MessageTooLarge
from pythia_core.engine.parking import NEVER
from pythia_core.engine.token_ledger import TokenLedger

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine


class Admission:
    """Hands chunks that a ledger has entered to the rest of the engine.

    Args:
        engine: whose scheduler, parking place and counters.
        intake: told how much came in.
        committer: told that there is something to do.
    """

    def __init__(self, engine: Engine, intake: Intake, committer: Committer) -> None:
        self._engine = engine
        self._intake = intake
        self._committer = committer

    def take_in(self, ledger: Ledger, chunk: Chunk, first: int) -> None:
        """Count a chunk whose first message has the number ``first``, and queue it to be run."""
        engine, messages = self._engine, chunk.messages
        sizes = ledger.sizes[first - ledger.base :]
        engine.stats.received += len(messages)
        self._committer.busy()
        self._intake.bytes_admitted(sum(sizes))
        self._intake.admitted(ledger)
        singly = ledger.partly_done or ledger.suspicious or engine.suspects.among(messages)
        if max(sizes) <= engine.settings.limits.message_bytes and not singly:
            engine.scheduler.admit(ledger, messages, first)
        else:
            self._take_in_singly(ledger, messages, first)

    def _take_in_singly(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        """Admit messages of which some are done already, suspects, or too large: those become dead letters, by reference."""
        bound = self._engine.settings.limits.message_bytes
        for number, message in self._not_done(ledger, messages, first):
            if message.size <= bound:
                if ledger.suspicious:
                    self._engine.line.take_in(ledger, message, number)
                elif not self._engine.suspects.take_in(ledger, message, number):
                    self._engine.scheduler.admit(ledger, (message,), number)
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

    def turn_away(self, ledger: Ledger, chunk: Chunk, first: int) -> None:
        """Give back what arrived after the last call: it is not run."""
        left, stats = self._not_done(ledger, chunk.messages, first), self._engine.stats
        for number, message in left:
            message._ledger, message._sequence = ledger, number
            if isinstance(ledger, TokenLedger):
                ledger.mark(message, RELEASED)
        stats.received += len(chunk.messages)
        stats.finished += len(left)
        stats.released += len(left)

    def set_aside(self, ledger: Ledger, chunk: Chunk, first: int) -> None:
        """Park for ever what arrives before the client has stopped: released any earlier it would come straight back."""
        self._engine.stats.received += len(chunk.messages)
        for number, message in self._not_done(ledger, chunk.messages, first):
            message._ledger, message._sequence, message._lane = ledger, number, None
            self._engine.parking.park(message, NEVER)
