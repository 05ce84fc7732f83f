"""Suspects: messages delivered so often that each may have ended its process every time. They run alone.

Invariants:

- U1. A suspect that comes with others is given back at once and never run beside them.
- U2. While a suspect runs nothing else runs, is on its way to a sink, or waits here to be run: all of it has been given
  back and the broker has confirmed that. So only the delivery of the one that runs is counted, if the process ends.
- U3. A suspect delivered alone :data:`SOLO_CRASHES` times, each time without an end, is dead-lettered without being run.
  With order by key, one whose key waits for a retry keeps its place behind it.
- U4. When no more suspects come all goes on as ever, whatever became of them.

This is for sources that acknowledge each message and count deliveries; how they count is a part of their contract
(:class:`~pythia_core.contracts.source.Capabilities`). For those that commit positions with notes see
:mod:`~pythia_core.engine.line`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from pythia_core.contracts.message import Message
from pythia_core.contracts.source import SUSPECT_AFTER
from pythia_core.engine.ledger import RELEASED, Ledger
from pythia_core.engine.outcomes import Crashed

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine
    from pythia_core.engine.session import Session

log = logging.getLogger("pythia.suspects")

SOLO_CRASHES = 3  # of a message that runs alone; then it is taken for the cause
REASON = "a message that may have ended its process runs alone"
LOOK = 0.01  # seconds between looks at whether everything else has ended
CONFIRM = 30.0  # seconds a broker may take to confirm what was given back, before all goes on without that
DELIVERIES = attrgetter("deliveries")


class Suspects:
    """Finds suspects among what arrives, and runs them one at a time.

    Args:
        group: where they run.
        engine: whose parts are used.
    """

    def __init__(self, group: TaskGroup, engine: Engine) -> None:
        self._group = group
        self._engine = engine
        capabilities = engine.source.capabilities
        self.watches = capabilities.delivery_count and capabilities.ack != "cumulative"
        self._alone = False  # from the first suspect until no more come
        self._wanted = False  # all else has ended: the next fetch brings one
        self._asked = False  # that fetch is under way
        self._answered = anyio.Event()
        self._found: Message[Any] | None = None

    def among(self, messages: Sequence[Message[Any]]) -> bool:
        """Tell whether any of these is a suspect; to be asked only if :attr:`watches`."""
        return bool(max(map(DELIVERIES, messages)) > SUSPECT_AFTER)

    def take_in(self, ledger: Ledger, message: Message[Any], number: int) -> bool:
        """Keep a message that came alone as it was asked for, or give it back; return False if it is no suspect."""
        if message.deliveries is None or message.deliveries <= SUSPECT_AFTER:
            return False
        if self._asked:
            self._found = message
            self._engine.scheduler.admit([(ledger, (message,), number)])  # the workers are paused
        else:
            message._ledger, message._sequence, message._lane = ledger, number, None
            self._give_back(message)
        return True

    def fetched(self) -> None:
        """Take note that a fetch has returned, and what it brought has been taken in."""
        if self._asked:
            self._wanted = self._asked = False
            self._answered.set()

    def _give_back(self, message: Message[Any]) -> None:
        message._ledger.mark(message, RELEASED)
        self._engine.stats.finished += 1
        self._engine.stats.released += 1
        if not self._alone:
            self._alone = True
            log.warning("%r was delivered %s times: it runs alone", message, message.deliveries)
            self._engine.stops.add(REASON, self._allowed)
            self._engine.pool.pause()
            self._group.start_soon(self._run, name="pythia suspects")

    def _allowed(self) -> int:
        self._asked = self._wanted
        return int(self._wanted)

    # -- alone ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        session = self._engine._session
        assert session is not None
        ledgers = [ledger for ledger in session.ledgers.values() if ledger.stopped is None]
        session.drain.release(ledgers)
        while await self._cleared(session) and (message := await self._next()) is not None:
            await self._try(message)
        self._alone = self._wanted = self._asked = False
        self._engine.pool.resume()
        self._engine.stops.discard(REASON)

    async def _cleared(self, session: Session) -> bool:
        """Wait until nothing is at work and the broker knows of all that was done or given back."""
        engine = self._engine
        while engine.work.anything_at_work():  # noqa: ASYNC110 - nobody else waits for it
            await anyio.sleep(LOOK)
        until = engine.clock() + CONFIRM
        while session is engine._session and engine.clock() < until:
            if await session.committer.flush(engine.clock() + 1.0):
                return True
        return False

    async def _next(self) -> Message[Any] | None:
        """Have one message fetched; return it if it is a suspect."""
        self._found, self._answered, self._wanted = None, anyio.Event(), True
        self._engine.stops.nudge()
        await self._answered.wait()
        return self._found

    async def _try(self, message: Message[Any]) -> None:
        """Run a suspect alone, or bury it if that has ended too many processes."""
        ready = self._engine.scheduler.ready
        before = (message.deliveries or 1) - 1
        if before < SUSPECT_AFTER + SOLO_CRASHES:
            await self._engine.pool.run_alone(message)
        elif message in ready:
            ready.remove(message)
            alone = before - SUSPECT_AFTER
            text = f"its process ended {before} times while it was at work, the last {alone} times with nothing else"
            self._engine.disposition.failed(message, Crashed(text))
