"""Draining: give back what has not started, wait for what has, settle it, and end by the deadline all the same.

A stop and a revoke do the same, over all ledgers or over some, and may do it at one time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import anyio

from pythia_core.contracts.message import Message
from pythia_core.engine.committer import Committer
from pythia_core.engine.ledger import RELEASED, Ledger
from pythia_core.engine.parking import NEVER
from pythia_core.engine.token_ledger import TokenLedger

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine

log = logging.getLogger("pythia.drain")

FORCED_SETTLE = 1.0  # seconds that a forced stop still gives to settling what is done


class Drain:
    """Lets ledgers run out.

    Args:
        engine: whose messages are at work.
        committer: settles what is done.
        aim: called when the number of those who wait for every single completion changes.
    """

    def __init__(self, engine: Engine, committer: Committer, aim: Callable[[], None]) -> None:
        self.watching = 0  # how many wait for every single completion
        self._engine = engine
        self._committer = committer
        self._aim = aim
        self._progress = anyio.Event()
        self._patience: anyio.CancelScope | None = None  # how long a step may take; force cuts it short

    def within(self, deadline: float) -> anyio.CancelScope:
        """Return the scope of a step of the drain, which :meth:`hurry` cuts short."""
        self._patience = scope = anyio.CancelScope(deadline=deadline)
        return scope

    def hurry(self) -> None:
        """Let a drain that is under way end soon."""
        if self._patience is not None:
            self._patience.deadline = min(self._patience.deadline, self._engine.clock() + FORCED_SETTLE)
        self.nudge()

    def withhold(self, ledgers: Collection[Ledger]) -> None:
        """Let nothing more be started, and keep it: given back before the client has stopped it would come straight back."""
        engine = self._engine
        unstarted = engine.work.take_unstarted(ledgers)
        engine.stats.finished -= len(unstarted)  # they have not left yet
        for message in unstarted:
            message._lane = None
            engine.parking.park(message, NEVER)
        engine.parking.hold()

    async def finish(self, ledgers: Collection[Ledger], deadline: float, work_until: float) -> None:
        """Give back what has not started, wait for the rest until ``work_until``, and settle by ``deadline``.

        What is still at work by then is cut off and given back as it ends, so that it is no crash to whoever counts them.
        Only a handler that does not end within half of the time that is left is not.
        """
        self.release(ledgers)
        self.watching += 1
        self._aim()
        try:
            if not await self._ended(ledgers, lambda: min(work_until, self._engine.deadline)):
                self._engine.work.cut_off(ledgers)
                cut = self._engine.clock()
                await self._ended(
                    ledgers, lambda: (cut + min(deadline, self._engine.deadline + FORCED_SETTLE)) / 2
                )
        finally:
            self.watching -= 1
            self._aim()
        self.leave(ledgers)
        if not await self._committer.flush(deadline):
            log.warning(
                "%s: not everything done could be settled in time; it will be delivered again",
                self._engine.source.name,
            )

    async def _ended(self, ledgers: Collection[Ledger], until: Callable[[], float]) -> bool:
        """Wait until nothing of these ledgers is at work; return False if that is not so by then."""
        while self._engine.work.started([ledger for ledger in ledgers if not ledger.closed]):
            rest = until() - self._engine.clock()
            if rest <= 0:
                return False
            if self._progress.is_set():  # else another drain waits for it too
                self._progress = anyio.Event()
            with anyio.move_on_after(rest):
                await self._progress.wait()
        return True

    def leave(self, ledgers: Collection[Ledger]) -> None:
        """Make the next settlement the last one, which says that these ledgers end in good order."""
        for ledger in ledgers:
            ledger.leaving = True
            if not ledger.closed:
                self._committer.dirty.add(ledger)

    def release(self, ledgers: Collection[Ledger], keep: Message[Any] | None = None) -> int:
        """Give back what has not started, but for one message, and return how many; positions are just dropped."""
        unstarted = self._engine.work.take_unstarted(ledgers)
        if keep in unstarted:
            unstarted.remove(keep)
            self._engine.stats.finished -= 1  # it has not left
            self._engine.scheduler.admit([(keep._ledger, (keep,), keep._sequence)])
        for message in unstarted:
            if isinstance(message._ledger, TokenLedger):
                message._ledger.mark(message, RELEASED)
        self._engine.stats.released += len(unstarted)
        if unstarted:
            self._committer.soon()
        return len(unstarted)

    def nudge(self) -> None:
        """Look again at what a drain waits for; the engine calls it when its deadline moves or a job is dropped."""
        self._progress.set()
