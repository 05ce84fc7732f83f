"""The line of suspects on sources that commit positions: they wait here, and each runs alone, in order.

It stands apart from :mod:`~pythia_core.engine.suspects` because such a source counts no deliveries and takes nothing back:
what is known of a message stands in the partition's note (:mod:`~pythia_core.engine.noted_ledger`), and what may not run
yet has to wait here. Invariants:

- V1. All of a suspicious partition waits here, so that order by key is kept; what its note says is done is not run again.
- V2. While a suspect runs, for the first time or again, nothing else runs or is on its way to a sink, and the broker has
  confirmed a note that names it. Before anything but another suspect runs, it has confirmed one that names none.
- V3. A suspect that its note names :data:`~pythia_core.contracts.source.SOLO_CRASHES` times is dead-lettered, not run.
- V4. A suspect that fails waits for its retry like any other message; only those of its key wait behind it.
- V5. A partition is suspicious for ``limits.span`` positions from where it was assigned, or until it has no more messages,
  or until a message is dead-lettered for the crashes: it explains those of all partitions that were here with it.
- V6. While the brake is engaged nothing of the line runs but as its probe (K6), what waits for its first run before what
  has failed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Hashable
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from pythia_core.contracts.message import Message
from pythia_core.contracts.source import SOLO_CRASHES
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.noted_ledger import NotedLedger
from pythia_core.engine.outcomes import Crashed
from pythia_core.engine.suspects import LOOK, REASON

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine

log = logging.getLogger("pythia.suspects")

PATIENCE = 1.0  # seconds of one wait for the broker to confirm a note, after which it is looked whether it still matters
RETRY_LOOK = 0.05  # seconds between looks at whether the key of those that are left is free


class Line:
    """Keeps the messages of suspicious partitions, and runs them one at a time.

    Args:
        group: where they run.
        engine: whose parts are used.
    """

    def __init__(self, group: TaskGroup, engine: Engine) -> None:
        self._group = group
        self._engine = engine
        self._lines: dict[NotedLedger, deque[Message[Any]]] = {}  # none of them empty
        self._at_work = False  # a task sees to the line
        self.holding = False  # all else is stopped
        self._named: Ledger | None = (
            None  # whose note names the suspect that ran last, as far as the broker knows
        )
        self._due = deque[Message[Any]]()  # whose retry has come; the scheduler has them

    def take_in(self, ledger: Ledger, message: Message[Any], number: int) -> None:
        """Keep a message of a suspicious partition until it may run."""
        assert isinstance(ledger, NotedLedger)
        message._ledger, message._sequence, message._lane = ledger, number, None
        if ledger not in self._lines:
            log.warning(
                "%s: what may have ended its process runs alone, from %r on", ledger.partition, message
            )
        self._lines.setdefault(ledger, deque()).append(message)
        self._begin()

    def due(self, message: Message[Any]) -> None:
        """Have a suspect run again whose retry has come."""
        self._due.append(message)
        self._engine.scheduler.requeue(message)
        self._begin()

    def _begin(self) -> None:
        if self._due and not self._engine.brake.engaged:
            self._hold(True)
        if not (self._at_work or self._engine.brake.engaged):
            self._at_work = True
            self._group.start_soon(self._run, name="pythia line")

    def brake_released(self) -> None:
        """Go on with what waited for it."""
        if self._lines or self._due:
            self._begin()

    async def run_one(self) -> bool:
        """Run one for the brake, which has nothing else to probe with; return False if there is none."""
        if self._at_work or (message := self._choose(new=True)) is None:
            return False
        self._hold(True)
        await self._try(message)
        await self._clear()
        if not self._at_work:  # else it has released the brake, and the line goes on
            self._hold(False)
        return True

    def take(self, ledgers: Collection[Ledger]) -> list[Message[Any]]:
        """Remove and return what waits of these ledgers."""
        gone = [ledger for ledger in self._lines if ledger in ledgers]
        return [message for ledger in gone for message in self._lines.pop(ledger)]

    def nothing_came(self, ledgers: Collection[Ledger]) -> None:
        """Take note that a fetch brought nothing: partitions of which all that came is done are suspicious no more."""
        for ledger in ledgers:
            if ledger.suspicious and ledger.head and not ledger.open_count():
                ledger.suspicious = False

    # -- alone ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        brake = self._engine.brake
        while (self._lines or self._due or self._named) and not brake.engaged:
            if self._due or self._next() is not None:
                self._hold(True)
                await self._settle_down()
                if not brake.engaged and (message := self._choose()) is not None:
                    await self._try(message)
            elif self._named is not None:
                await self._clear()
            else:
                self._hold(False)
                await anyio.sleep(RETRY_LOOK)
        await self._clear()
        self._hold(False)
        self._at_work = False

    async def _clear(self) -> None:
        """Wait until the broker has a note that does not name the suspect that ran last: what runs now is not its fault."""
        if (ledger := self._named) is not None:
            await self._confirmed(ledger)
            self._named = None

    def _choose(self, *, new: bool = False) -> Message[Any] | None:
        """Return a suspect whose retry has come, or else the first that waits; with ``new`` the other way round."""
        first = self._next() if new or not self._due else None
        return self._due.popleft() if first is None and self._due else first

    def _hold(self, wanted: bool) -> None:
        """Stop all else, or let it go on."""
        if wanted == self.holding:
            return
        self.holding = wanted
        if wanted:
            self._engine.stops.add(REASON)
            self._engine.pool.pause()
        else:
            self._engine.pool.resume()
            self._engine.stops.discard(REASON)

    async def _settle_down(self) -> None:
        while self._engine.work.anything_at_work():  # noqa: ASYNC110 - nobody else waits for it
            await anyio.sleep(LOOK)

    def _next(self) -> Message[Any] | None:
        """Return the first suspect whose key is free; a line that begins beyond its suspicious range is let go."""
        for ledger, line in list(self._lines.items()):
            if line[0].position >= self._until(ledger):
                self._let_go(ledger)
                continue
            for message in line:
                if self._key(message) not in ledger.lanes:
                    return message
        return None

    def _until(self, ledger: NotedLedger) -> int:
        """Return the position past the suspicious range; a ledger without a position has no note, and is not suspicious."""
        start: int = ledger.assignment.position or 0
        return start + self._engine.settings.limits.span

    def _key(self, message: Message[Any]) -> Hashable:
        """Return what the scheduler orders a message by, or the message itself, which nothing else is ordered by."""
        order = self._engine.scheduler.order
        key: Hashable = {"key": message.key, "partition": True}.get(order)
        return id(message) if key is None else key

    def _let_go(self, ledger: NotedLedger) -> None:
        """Hand over what is left of a line; nothing more of its partition waits here."""
        ledger.suspicious = False
        for message in self._lines.pop(ledger):
            self._engine.scheduler.admit([(ledger, (message,), message._sequence)])

    def _end_suspicion(self) -> None:
        """Let all go on as ever: if there is a second cause, it will be found in the same way."""
        for waiting in list(self._lines):
            self._let_go(waiting)
        for ledger in self._engine.ledgers:
            if isinstance(ledger, NotedLedger):
                ledger.suspicious = False
                ledger.opened = 1

    async def _try(self, message: Message[Any]) -> None:
        """Run a suspect alone, or bury it if that has ended too many processes."""
        ledger: Any = message._ledger
        solo: tuple[int, int] | None = ledger.solo
        count = solo[1] if solo and solo[0] == message.position else 0
        if count >= SOLO_CRASHES:
            if self._admit(message):
                self._engine.scheduler.ready.remove(message)
                self._engine.disposition.failed(
                    message, Crashed(f"its process ended {count} times while it ran alone")
                )
                # Else a second cause would end the process first, and leave this one to be found again, for ever.
                await self._settle_down()
                await self._confirmed(ledger)
            self._end_suspicion()
            return
        ledger.trying = message.position, count + 1
        await self._confirmed(ledger)
        if self._admit(message) and await self._engine.brake.run_alone(message):
            if (failure := getattr(message, "_failure", None)) is not None:
                failure.alone = True
            await self._settle_down()
            if count:
                ledger.solo = None  # it has survived
        ledger.trying, self._named = None, ledger

    async def _confirmed(self, ledger: Ledger) -> None:
        """Wait until the broker has the note, or the partition is gone."""
        session = self._engine.session
        assert session is not None
        session.committer.dirty.add(ledger)
        while not (ledger.closed or ledger.draining) and not await session.committer.flush(
            self._engine.clock() + PATIENCE
        ):
            pass

    def _admit(self, message: Message[Any]) -> bool:
        """Give a suspect that still waits to the scheduler; return False if it was taken away meanwhile."""
        ledger: Any = message._ledger
        line = self._lines.get(ledger)
        if line is not None and message in line:
            line.remove(message)
            if not line:
                del self._lines[ledger]
            self._engine.scheduler.admit([(ledger, (message,), message._sequence)])
        return message in self._engine.scheduler.ready
