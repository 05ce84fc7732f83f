"""Asks a source again and again how much is left, for reports: what scaling and monitoring know of a queue.

It stands apart from the runtime because only one process of a fleet does it, chosen by the supervisor, and because no
answer is an answer too: what is not known is None here, and grows stale by its age.
"""

from __future__ import annotations

import heapq
import logging
import time
from operator import itemgetter
from typing import Any

import anyio
import attrs

from pythia_core.contracts import Backlog, Inspector, Source

__all__ = ["Observation"]

OBSERVE_SECONDS = 2.0
DEADLINE_SECONDS = 10.0  # for one answer
FULLEST = 12  # partitions that a report names

log = logging.getLogger("pythia.worker")


@attrs.define(eq=False)
class Observation:
    """What a source's inspector said last.

    Args:
        source: resolved.
        system: what kind of broker it is, as configuration names it.
        interval: seconds between two answers.
    """

    source: Source
    system: str
    interval: float = OBSERVE_SECONDS
    errors: int = 0
    _seen: tuple[float, Backlog] | None = None
    _error: str = ""

    async def run(self) -> None:
        """Ask until cancelled; connect anew after an error."""
        while True:
            try:
                async with self.source.inspect() as inspector:
                    await self._ask(inspector)
            except Exception as error:
                self._failed(error)
            await anyio.sleep(OBSERVE_SECONDS)

    async def _ask(self, inspector: Inspector) -> None:
        while True:
            with anyio.fail_after(DEADLINE_SECONDS):
                backlog = await inspector.backlog()
            self._seen, self._error = (time.monotonic(), backlog), ""
            await anyio.sleep(self.interval)

    def _failed(self, error: Exception) -> None:
        """Count it, and log the first of a kind: a broker that is down is said elsewhere already."""
        self.errors += 1
        what = f"{type(error).__name__}: {error}"
        if what != self._error:
            log.warning("%s: how much is left cannot be asked: %s", self.source.name, what)
        self._error = what

    def forget(self) -> None:
        """Forget what was seen, since nobody asks any more."""
        self._seen = None

    def report(self) -> dict[str, Any] | None:
        """Return the last answer with its age in seconds, or None if there is none."""
        if self._seen is None:
            return None
        at, backlog = self._seen
        lags = [part.waiting for part in backlog.by_partition.values() if part.waiting is not None]
        return {
            "age": time.monotonic() - at,
            "waiting": backlog.waiting,
            "in_flight": backlog.in_flight,
            "oldest": backlog.oldest_age_seconds,
            "at_least": backlog.at_least,
            "partitions": len(backlog.by_partition) or None,
            "partitions_with_lag": sum(lag > 0 for lag in lags) if lags else None,
            "max_partition_lag": max(lags) if lags else None,
            "fullest": _fullest(backlog),
        }


def _fullest(backlog: Backlog) -> list[tuple[str, int, float | None]]:
    """Return the partitions with the most left: name, messages, age of the oldest."""
    parts = backlog.by_partition.items()
    left = [(repr(name), part.waiting, part.oldest_age_seconds) for name, part in parts if part.waiting]
    return heapq.nlargest(FULLEST, left, key=itemgetter(1))
