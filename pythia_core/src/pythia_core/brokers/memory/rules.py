"""The rules of a group: what its broker is to be able to do. One frozen value, checked once, compared when a member joins."""

from __future__ import annotations

from typing import Literal

import attrs

from pythia_core.contracts.source import SOLO_CRASHES, Capabilities
from pythia_core.errors import ConfigError

Ack = Literal["cumulative", "individual", "both"]
OrderScope = Literal["none", "consumer", "partition"]
Rebalances = Literal["eager", "incremental"]


@attrs.frozen(kw_only=True)
class Rules:
    """See :class:`~pythia_core.brokers.memory.MemoryConsumer`, whose fields they are."""

    ack: Ack = "individual"
    order_scope: OrderScope | None = None
    window: int | None = None
    lease_seconds: float | None = None
    delivery_count: bool = True
    solo_crashes: int = SOLO_CRASHES
    notes: bool = False
    rebalances: Rebalances | None = None
    revoke_seconds: float = 10.0
    keep_rejected: bool = False

    @property
    def split(self) -> bool:
        """Whether partitions are split over the members; otherwise all members draw from one queue."""
        return self.ack == "cumulative" or self.order_scope == "partition"

    @property
    def kind(self) -> tuple[Ack, bool]:
        """What a group can never change, because what it remembers depends on it."""
        return self.ack, self.split

    @property
    def capabilities(self) -> Capabilities:
        """The same as the engine is told it."""
        return Capabilities(
            ack=self.ack,
            order_scope=self.order_scope or ("partition" if self.split else "consumer"),
            window=self.window,
            lease_seconds=self.lease_seconds,
            delivery_count=self.delivery_count and self.ack != "cumulative",
            solo_crashes=self.solo_crashes,
            notes=self.notes,
            rebalances=self.rebalances is not None,
            revoke_seconds=self.revoke_seconds if self.rebalances else None,
        )

    def check(self) -> None:
        """Raise ConfigError if the settings disagree."""
        cumulative = self.ack == "cumulative"
        self._demand(
            self.ack in ("cumulative", "individual", "both"), "ack", "cumulative, individual or both"
        )
        self._demand(
            self.order_scope in (None, "none", "consumer", "partition"),
            "order_scope",
            "none, consumer or partition",
        )
        self._demand(
            self.rebalances in (None, "eager", "incremental"), "rebalances", "eager, incremental or nothing"
        )
        self._demand(self.window is None or self.window > 0, "window", "at least 1")
        self._demand(self.lease_seconds is None or self.lease_seconds > 0, "lease_seconds", "more than 0")
        self._demand(self.solo_crashes > 0, "solo_crashes", "at least 1")
        self._demand(self.revoke_seconds > 0, "revoke_seconds", "more than 0")
        self._demand(
            not cumulative or self.order_scope in (None, "partition"),
            "order_scope",
            "partition, or left out, with ack=cumulative: its partitions are split over the members",
        )
        self._demand(
            not (cumulative and self.lease_seconds),
            "lease_seconds",
            "left out with ack=cumulative: a log has no leases",
        )
        self._demand(
            cumulative or not self.notes,
            "notes",
            "used with ack=cumulative: a note stands beside a committed position",
        )
        self._demand(
            self.split or not self.rebalances,
            "rebalances",
            "used with ack=cumulative or order_scope=partition: one queue has no partitions to move",
        )

    def _demand(self, met: bool, field: str, allowed: str) -> None:
        if not met:
            raise ConfigError(f"{field}={getattr(self, field)!r} must be {allowed}")
