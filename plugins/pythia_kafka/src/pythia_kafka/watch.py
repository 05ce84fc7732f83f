"""Notices that nobody answers: the client itself tries again for ever and says so only in its log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import anyio

from pythia_core import Partition, SubscriptionLost
from pythia_kafka.client import Client

EVERY: Final = 1.0  # seconds between looks
LONGEST_STEP: Final = 2.0  # seconds that one look counts for, however long we slept ourselves


class Watch:
    """Looks at a client now and then.

    Args:
        client: whom.
        topics: those subscribed to by name.
        patience: seconds that a coordinator, all brokers or a topic may be gone.
    """

    def __init__(self, client: Client, topics: Iterable[str], patience: float) -> None:
        self._client = client
        self._topics = tuple(topics)
        self._patience = patience
        self._looked = anyio.current_time()
        self._gone = dict.fromkeys(MEANING, 0.0)
        self._heard: dict[Any, int | None] = {}

    def begin(self, partitions: Iterable[Partition]) -> None:
        """Watch other partitions from now on."""
        self._heard = dict.fromkeys(partitions)
        self._gone["brokers"] = 0.0

    def look(self) -> None:
        """Look, if it is time.

        Raises:
            SubscriptionLost: if something has been gone for too long.
        """
        now = anyio.current_time()
        if now - self._looked < EVERY:
            return
        step = min(now - self._looked, LONGEST_STEP)
        self._looked = now
        gone = {
            "coordinator": not self._client.knows_coordinator,
            "brokers": self._silent(),
            "topics": not all(map(self._client.partitions_of, self._topics)),
        }
        for what, is_gone in gone.items():
            self._gone[what] = self._gone[what] + step if is_gone else 0.0
            if self._gone[what] > self._patience:
                raise SubscriptionLost(f"{MEANING[what]} for {self._patience:g} s")

    def _silent(self) -> bool:
        """Tell whether no broker has answered for any partition since the last look, though all were asked for."""
        before, self._heard = self._heard, {p: self._client.heard(p) for p in self._heard}
        if not before or self._client.rebalancing or self._client.ready():
            return False  # what has come in and is not wanted yet is not asked for again
        return before == self._heard


MEANING: Final = {
    "coordinator": "no broker has coordinated the group",
    "brokers": "no broker has answered a fetch",
    "topics": "a topic that is read has not been there",
}
