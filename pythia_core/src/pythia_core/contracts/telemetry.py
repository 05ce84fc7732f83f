"""Telemetry: rare events as calls, frequent ones as plain counters that an exporter reads when it is scraped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pythia_core.contracts.message import Message, Partition

if TYPE_CHECKING:
    from pythia_core.engine.stats import Stats


class Telemetry:
    """Receives what a worker does. One that raises is logged once and dropped: it never harms a message.

    Only what a subclass overrides is ever called. Set ``durations`` to have handler times counted into the buckets of
    :class:`~pythia_core.engine.stats.Stats`; it costs a clock read and two additions a message, 0.2 microseconds.
    """

    durations: bool = False
    listen: str | None = None
    """``HOST:PORT`` where :meth:`monitor` should answer, or None to leave that to ``pythia run --listen``."""

    @classmethod
    def monitor(cls) -> Monitor | None:
        """Return what takes the reports of all processes and answers questions about them, or None."""
        return None

    def attach(self, report: Callable[[], Mapping[str, Any]]) -> None:
        """Keep ``report``, which returns a worker's figures and state as a report has them. Called before ``start``."""

    def report(self) -> Mapping[str, Any]:
        """Return what goes into the process's report to its monitor: JSON, a few KiB. Called about once a second."""
        return {}

    def start(self, stats: Stats) -> None:
        """Keep ``stats``: its counters are live, and reading them is how figures leave the engine."""

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """Take note of partitions that are now ours."""

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:
        """Take note of partitions that are ours no longer; ``lost`` if nothing of them could be settled."""

    def paused(self, reason: str, paused: bool) -> None:
        """Take note that intake stopped for ``reason``, or (False) that this reason is gone."""

    def dead_letter(self, message: Message[Any], error: BaseException) -> None:
        """Take note of a confirmed dead letter."""

    def stopped(self, reason: str) -> None:
        """Take note that the worker has stopped."""


class Monitor:
    """The other end of a telemetry: one object for all processes, in the supervisor, or in the process without one.

    All but ``open`` and ``close`` are called in one thread and must not wait. One that raises is logged once and dropped.
    """

    def open(self, host: str, port: int) -> None:
        """Begin to answer, in threads of its own.

        Raises:
            OSError: if the address cannot be listened on.
        """

    def take(self, number: int, slot: int, report: Mapping[str, Any]) -> None:
        """Take a process's report: ``number`` is its own for ever, ``slot`` only while it lives."""

    def forget(self, number: int) -> None:
        """Take note that a process has ended; what it counted last has been counted."""

    def show(self, fleet: Mapping[str, Any]) -> None:
        """Take the state of all processes, about once a second, so that no call for long means a loop that hangs."""

    def close(self) -> None:
        """Stop to answer."""
