"""The messages of the engine by what is being done with them, and how they are taken away when a partition goes.

It stands apart because only losing, revoking and stopping ask across all parts; a message's way never does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import itemgetter
from typing import Any

from pythia_core.clock import Clock
from pythia_core.contracts.message import Message
from pythia_core.contracts.settlement import Assignment
from pythia_core.engine.dead_letters import printable
from pythia_core.engine.disposition import Disposition
from pythia_core.engine.health import State, Stuck
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.line import Line
from pythia_core.engine.outcomes import Failure, Revoked
from pythia_core.engine.parking import Parking
from pythia_core.engine.pool import Pool, Slot
from pythia_core.engine.publisher import Publisher
from pythia_core.engine.scheduler import Scheduler
from pythia_core.engine.token_ledger import TokenLedger

STUCK = 60.0  # seconds after which a message is worth naming
MOST_STUCK = 10
LONGEST_WHY = 120  # characters of an error


class Work:
    """Looks across the parts that hold messages.

    Args:
        scheduler: those that wait, and the keys.
        pool: those that run.
        publisher: those whose outputs are on their way.
        parking: those that wait for their next attempt.
        disposition: those that stopped their partition.
        line: those that wait to be run alone.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        pool: Pool,
        publisher: Publisher,
        parking: Parking,
        disposition: Disposition,
        line: Line,
        clock: Clock,
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._publisher = publisher
        self._parking = parking
        self._disposition = disposition
        self._line = line
        self._clock = clock
        self._seen: dict[
            int, tuple[float, State, Message[Any]]
        ] = {}  # what nobody times: since when it is what

    def started(self, ledgers: Collection[Ledger]) -> list[Message[Any]]:
        """Return the messages of ``ledgers`` that are running or whose outputs are on their way."""
        wanted = set(ledgers)
        running = [message for slot in self._pool.slots for message in slot.messages]
        publishing = [job.message for job in self._publisher.jobs]
        return [message for message in (*running, *publishing) if message._ledger in wanted]

    def anything_at_work(self) -> bool:
        """Tell whether a message runs, or is on its way to a sink, that has not been cancelled."""
        return bool(self._pool.at_work or self._publisher.jobs)

    def nothing_runs(self) -> bool:
        """Tell whether all that is left in flight is parked or held."""
        return not (self._scheduler.ready or self._pool.running or self._publisher.jobs)

    def take_unstarted(self, ledgers: Collection[Ledger]) -> list[Message[Any]]:
        """Take out the messages of ``ledgers`` that are neither running nor publishing, parked ones included."""
        wanted = set(ledgers)
        parked = self._parking.take(lambda message: message._ledger in wanted)
        held = self._disposition.take_held(lambda message: message._ledger in wanted)
        in_line = self._line.take(wanted)
        return self._scheduler.purge(wanted, parked + held + in_line, self.started(wanted))

    def abandon(self, ledger: Ledger) -> None:
        """Close a ledger; outputs not written yet are dropped, handlers at work become orphans."""
        started = self.started([ledger])
        self._scheduler.abandon(ledger, started)
        for message in self._publisher.drop(started):
            self._scheduler.orphan_ended(message)

    def cancel_orphans(self) -> None:
        """Cancel handlers whose ledger is closed; each keeps its key closed in this process until it has ended."""
        self._cancel(lambda ledger: ledger.closed)

    def cut_off(self, ledgers: Collection[Ledger]) -> None:
        """Cancel the handlers of ledgers that drain, whose messages leave as they end, and drop outputs not confirmed yet."""
        wanted = set(ledgers)
        self._cancel(lambda ledger: ledger in wanted)
        for message in self._publisher.drop(self.started(wanted)):
            self._disposition.failed(message, Revoked("its outputs were not confirmed in time"))

    def _cancel(self, wanted: Callable[[Ledger], bool]) -> None:
        for slot in list(self._pool.slots):
            if slot.messages and all(wanted(message._ledger) for message in slot.messages):
                self._pool.replace(slot, Revoked("the partition was revoked while the handler ran"))

    def leftovers(self, patience: float) -> list[Slot]:
        """Return the workers of lost messages that were cancelled so long ago and have not ended."""
        now = self._clock()
        return [
            slot
            for slot in self._pool.running
            if slot.cancelled is not None
            and now - slot.cancelled > patience
            and all(message._ledger.closed for message in slot.messages)
        ]

    def observe(self) -> None:
        """Note the time for messages not seen before whose outputs are on their way, or that stopped their partition."""
        now, seen = self._clock(), self._seen
        self._seen = {id(m): seen.get(id(m), (now, state, m)) for state, m in self._untimed()}

    def _untimed(self) -> Iterator[tuple[State, Message[Any]]]:
        for job in self._publisher.jobs:
            yield "publishing", job.message
        for message in self._disposition.held:
            yield "held", message

    def stuck(self) -> list[Stuck]:
        """Return the messages that have been at one thing for long, and handlers that ignore a cancellation; worst first."""
        now = self._clock()
        named = [entry for entry in self._since() if now - entry[0] >= STUCK or entry[1] == "cancelled"]
        worst = heapq.nsmallest(MOST_STUCK, named, key=itemgetter(0))
        return [Stuck(repr(message), state, now - since, _why(message)) for since, state, message in worst]

    def _since(self) -> Iterator[tuple[float, State, Message[Any]]]:
        """Yield since when every message is at what."""
        self.observe()
        yield from self._seen.values()
        for message, since in self._parking.since():
            yield since, "parked", message
        for slot in self._pool.observe():
            if slot.message is not None:
                yield slot.cancelled or slot.since, "cancelled" if slot.cancelled else "running", slot.message

    def strike(self, ledger: Ledger, messages: Sequence[Message[Any]]) -> None:
        """Fence messages that are no longer ours: unstarted ones are dropped, results of running ones are ignored."""
        tomb = TokenLedger(ledger.partition, Assignment(None), ledger.decode)
        tomb.close()
        at_work = self.started([ledger])
        ids = {id(message) for message in at_work}
        unstarted = [message for message in messages if id(message) not in ids]
        gone = {id(message) for message in unstarted}
        heads = [*at_work, *self._disposition.held, *self._parking.messages()]
        self._parking.take(lambda message: id(message) in gone)
        self._disposition.take_held(lambda message: id(message) in gone)
        self._scheduler.discard(unstarted, heads)
        struck = [message for message in messages if id(message) in ids]
        for message in struck:
            self._scheduler.strike(message, tomb)
        for message in self._publisher.drop(struck):
            self._scheduler.orphan_ended(message)


def _why(message: Message[Any]) -> str:
    """Return the message's last error in short, if it has failed."""
    failure: Failure | None = getattr(message, "_failure", None)
    if failure is None:
        return ""
    text = f"{type(failure.error).__name__}: {failure.error}".removesuffix(": ")
    return printable(text if len(text) <= LONGEST_WHY else f"{text[:LONGEST_WHY]}...")
