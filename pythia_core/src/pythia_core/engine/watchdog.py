"""The watchdog subscribes anew when messages are known to wait and none come: a client that has gone deaf does not know it.

It stands apart from the sweep because it asks the broker, over a connection of its own, and waits for the answer.

Invariants:

- W1. It suspects only silence without a reason: for :data:`SILENCE` seconds nothing came, nothing was in flight, nothing
  stopped intake, and partitions were ours. Until then the broker is asked nothing.
- W2. It acts when two looks, :data:`LOOK` seconds apart, both find messages waiting for us and nothing has come meanwhile.
- W3. What is unknown is no reason to act: a backlog that is None, an inspector that raises or does not answer in time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from pythia_core.contracts.source import Backlog
from pythia_core.errors import SubscriptionLost

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine
    from pythia_core.engine.session import Session

log = logging.getLogger("pythia.watchdog")

SILENCE = 60.0  # seconds
LOOK = 10.0  # seconds between looks, and that an answer may take


class Watchdog:
    """Watches an engine's subscription.

    Args:
        engine: what is watched.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Session | None = None
        self._received = 0
        self._silent_since = engine.clock()
        self._suspicious = False

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await anyio.sleep(LOOK)
            if self._is_silent() and self._engine.clock() - self._silent_since >= SILENCE:
                waiting = await self._waiting()
                if self._is_silent():
                    self._judge(waiting)

    def _is_silent(self) -> bool:
        """Tell whether nothing comes for no reason; else silence begins anew."""
        engine, session = self._engine, self._engine.session
        silent = session is not None and session is self._session and engine.stats.received == self._received
        self._session, self._received = session, engine.stats.received
        if silent and session is not None and not session.busy_or_stopped:
            return True
        self._begin_anew()
        return False

    def _begin_anew(self) -> None:
        self._silent_since = self._engine.clock()
        self._suspicious = False

    def _judge(self, waiting: int) -> None:
        if not waiting:
            self._begin_anew()
        elif not self._suspicious:
            self._suspicious = True
        elif self._session is not None:
            why = f"{waiting} message(s) wait, and none has come for {SILENCE:g} s or more"
            log.error("%s: %s; subscribing anew", self._engine.source.name, why)
            self._session.fail(SubscriptionLost(why))
            self._begin_anew()

    async def _waiting(self) -> int:
        """Return how many messages are known to wait for us."""
        with anyio.move_on_after(LOOK):
            try:
                async with self._engine.source.inspect() as inspector:
                    return self._ours(await inspector.backlog())
            except Exception as error:
                log.info("%s: its backlog is unknown: %s", self._engine.source.name, error)
        return 0

    def _ours(self, backlog: Backlog) -> int:
        if not backlog.by_partition:
            return backlog.waiting or 0
        mine = self._session.ledgers if self._session is not None else ()
        parts = (backlog.by_partition[partition] for partition in mine if partition in backlog.by_partition)
        return sum(part.waiting or 0 for part in parts)
