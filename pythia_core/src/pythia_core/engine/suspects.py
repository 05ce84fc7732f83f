"""Suspects: messages delivered so often that each may have ended its process every time. They run alone.

Invariants:

- U1. A suspect that comes with others is given back at once, or waits, and is never run beside them.
- U2. While a suspect runs, for the first time or again, nothing else runs, is on its way to a sink, or waits here: all of
  it has been given back and the broker has confirmed that. So only the delivery of the one that runs is counted, if the
  process ends. One that is to run again is given back too, and comes with others, which is not counted, to wait here for
  its time; it keeps its attempts by its id, and its place before those of its key.
- U3. A suspect delivered alone ``Capabilities.solo_crashes`` times, each time without an end, is dead-lettered without being run.
  With order by key, one whose key waits for a retry keeps its place behind it.
- U4. When no more suspects come all goes on as ever, whatever became of them.
- U5. While the brake is engaged no suspect runs but as its probe (K6), each in its turn. Those that come, and those whose
  retry has come, wait here: given back at once they would come straight back, and hide what else there is to probe with.
  When the brake is released it is begun with them, before anything else.

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
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.outcomes import Crashed, Failure

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine
    from pythia_core.engine.session import Session

log = logging.getLogger("pythia.suspects")

REASON = "a message that may have ended its process runs alone"
LOOK = 0.01  # seconds between looks at whether everything else has ended
FORGET = 600.0  # seconds after the time of its retry until one that has not come again is somebody else's
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
        self._apart = capabilities.suspects
        self._most = SUSPECT_AFTER + capabilities.solo_crashes
        self.alone = False  # from the first suspect until no more come
        self._wanted = False  # all else has ended: the next fetch brings one
        self._asked = False  # that fetch is under way
        self._answered = anyio.Event()
        self._found: Message[Any] | None = None
        self._kept = False  # some wait for the brake; the scheduler has them
        self._probed: set[str] = set()  # whose turn as a probe has been, by id
        self._waited: dict[str, tuple[Failure, float]] = {}  # given back while they waited for a retry, by id

    def among(self, messages: Sequence[Message[Any]]) -> bool:
        """Tell whether any of these is a suspect; to be asked only if :attr:`watches`."""
        return bool(max(map(DELIVERIES, messages)) > SUSPECT_AFTER)

    def is_one(self, message: Message[Any]) -> bool:
        """Tell whether a message may run alone only."""
        failure = getattr(message, "_failure", None)
        if failure is not None and failure.alone:
            return True
        return self.watches and (message.deliveries or 0) > SUSPECT_AFTER

    def take_in(self, ledger: Ledger, message: Message[Any], number: int) -> bool:
        """Take in a suspect that came alone as it was asked for, or among others; return False if it is none."""
        if message.deliveries is None or message.deliveries <= SUSPECT_AFTER:
            return False
        self._engine.scheduler.admit([(ledger, (message,), number)])
        if message.id in self._waited:
            message._failure = self._waited[message.id][0]
        if self._asked:
            self._found = message
        elif self._engine.brake.engaged:
            self._kept = True
        elif not self.alone and not self._is_early(message):
            log.warning("%r was delivered %s times: it runs alone", message, message.deliveries)
            self._begin()
        return True

    def _is_early(self, message: Message[Any]) -> bool:
        """Park a suspect whose time has not come; tell whether it, or the one of its key before it, has to wait."""
        if message in self._engine.scheduler.ready:
            return self._still_waits(message)
        waiting = filter(self.is_one, self._engine.parking.messages())
        return any(head._ledger is message._ledger and head._lane == message._lane for head in waiting)

    def fetched(self) -> None:
        """Take note that a fetch has returned, and what it brought has been taken in."""
        if self._asked:
            self._wanted = self._asked = False
            self._answered.set()

    def due(self, message: Message[Any]) -> None:
        """Have a suspect run again whose retry has come."""
        self._engine.scheduler.requeue(message)
        if self._engine.brake.engaged:
            self._kept = True
        else:
            self._begin()

    def brake_released(self) -> None:
        """Begin with those that waited for it."""
        if self._kept:
            self._begin()

    async def run_one(self) -> bool:
        """Run one for the brake, which has nothing better to probe with; return False if none waits for that."""
        if self.alone or not self._kept:
            return False
        self._hold()
        await self._run(probing=True)
        return True

    def _begin(self) -> None:
        if not self.alone:
            self._hold()
            self._group.start_soon(self._run, name="pythia suspects")

    def _hold(self) -> None:
        self.alone = True
        self._engine.stops.add(REASON, self._allowed)
        self._engine.pool.pause()

    def _allowed(self) -> int:
        self._asked = self._wanted
        return int(self._wanted)

    # -- alone ---------------------------------------------------------------------------------------------------

    async def _run(self, probing: bool = False) -> None:
        session, brake = self._engine._session, self._engine.brake
        assert session is not None
        self._kept = False
        self._give_back_others(session, None)
        probed = False
        while await self._cleared(session) and not probed and (probing or not brake.engaged):
            if (message := await self._next()) is None:
                self._probed.clear()
                break
            probed = await self._try(session, message) and brake.engaged
        await self._end(session)

    async def _end(self, session: Session) -> None:
        """Let all go on as ever; suspects that wait are given back first, and come again without being counted."""
        engine = self._engine
        self._wanted = self._asked = False
        if (
            any(map(self.is_one, (*engine.parking.messages(), *engine.scheduler.ready)))
            and not session.closing
        ):
            self._give_back_others(session, None)
            await self._cleared(session)
        if not engine.brake.engaged:
            self._probed.clear()
        since = engine.clock() - FORGET
        self._waited = {id: waited for id, waited in self._waited.items() if waited[1] > since}
        self.alone = False
        engine.pool.resume()
        engine.stops.discard(REASON)

    def _give_back_others(self, session: Session, keep: Message[Any] | None) -> bool:
        """Give back all but one message, so that nothing is counted that does not run; return False if there was nothing."""
        now, waited = self._engine.clock(), self._waited
        for message, due in (*((m, now) for m in self._engine.scheduler.ready), *self._engine.parking.due()):
            if message is not keep and self.is_one(message) and hasattr(message, "_failure"):
                waited[message.id] = message._failure, max(due, waited.get(message.id, (None, 0.0))[1])
        ledgers = [
            ledger
            for ledger in session.ledgers.values()
            if ledger.stopped is None and self._apart in (None, ledger.partition)
        ]
        return session.drain.release(ledgers, keep) > 0

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

    async def _try(self, session: Session, message: Message[Any]) -> bool:
        """Run a suspect alone, or bury it if that has ended too many processes; return True if it was run."""
        ready = self._engine.scheduler.ready
        before = (message.deliveries or 1) - 1
        if message not in ready:
            return False  # it waits behind one of its key that waits for its retry, or is gone
        if before < self._most:
            return not self._still_waits(message) and await self._run_alone(session, message)
        ready.remove(message)
        alone = before - SUSPECT_AFTER
        text = (
            f"its process ended {before} times while it was at work, the last {alone} times with nothing else"
        )
        self._engine.disposition.failed(message, Crashed(text))
        return False

    def _still_waits(self, message: Message[Any]) -> bool:
        """Park a suspect if the time of its retry has not come.

        One that has probed for the brake waits until all others have.
        """
        if self._engine.brake.engaged and message.id in self._probed:
            return True
        if (rest := self._waited.get(message.id, (None, 0.0))[1] - self._engine.clock()) <= 0:
            return False
        self._engine.scheduler.ready.remove(message)
        self._engine.parking.park(message, rest)
        return True

    async def _run_alone(self, session: Session, message: Message[Any]) -> bool:
        if self._give_back_others(session, message) and not await self._cleared(session):
            return False
        if self._engine.brake.engaged:
            self._probed.add(message.id)
        ran = await self._engine.brake.run_alone(message)
        if (failure := getattr(message, "_failure", None)) is not None:
            failure.alone = True
        return ran
