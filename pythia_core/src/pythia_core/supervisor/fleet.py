"""The children and the seats they fill, as the state machine knows them: data, and questions about it."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from pythia_core.supervisor.events import Report, Waiting

__all__ = ["Child", "Seat", "describe_status", "free_slot", "processes"]

KILL_GRACE = 10.0
"""Seconds past its drain timeout that a child has for ``shutdown()`` and for closing connections."""

COMPLAIN_SECONDS = 3.0
"""Seconds not ready before it is worth a line: connecting takes a moment, and so does a rebalance."""

UNLOADED_GRACE = 5.0
"""Seconds that a child has which is still importing its workers: there is nothing to drain yet."""


@attrs.define(eq=False)
class Child:
    """One process.

    Args:
        number: unique for ever; ``slot`` only among the living.
        started, heard, first_ready: when it was started, last reported, and was first ready.
        unready_since, complained: since when it is not ready, and whether that was said.
        loaded: it has imported its workers.
        told: the last command sent to it; ``draining`` says that it is ending by itself.
        silent: it should report and does not.
        tired: why it asked to be recycled; ``recycled``: it follows one that was.
        fault: why it is about to end; ``hopeless``: it said that another start would end the same way.
        paused: it was started so, or told so last.
        kill_at: when it is killed if it has not ended.
    """

    number: int
    slot: int
    started: float
    heard: float = attrs.field(default=attrs.Factory(lambda self: self.started, takes_self=True))
    loaded: bool = False
    ready: bool = False
    first_ready: float | None = None
    unready_since: float | None = None
    complained: bool = False
    waiting_for: Waiting = "itself"
    reasons: tuple[str, ...] = ()
    busy: float = 0.0
    drain_timeout: float = 25.0
    told: str = ""
    draining: bool = False
    silent: bool = False
    tired: str = ""
    recycled: bool = False
    fault: str = ""
    hopeless: bool = False
    paused: bool = False
    kill_at: float | None = None
    killed: bool = False

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out, told or not."""
        return self.draining or bool(self.told)

    @property
    def state(self) -> str:
        """One word for people."""
        if self.leaving:
            return "draining"
        if self.silent:
            return "silent"
        return "ready" if self.ready else "waiting" if self.loaded else "starting"

    def take(self, report: Report, now: float) -> None:
        """Remember what it says of itself."""
        self.heard, self.silent, self.loaded = now, False, True
        self.waiting_for, self.reasons, self.busy = report.waiting_for, report.reasons, report.busy
        self.ready = report.ready and not self.leaving
        if self.ready:
            self.unready_since, self.complained = None, False
        elif self.unready_since is None:
            self.unready_since = now
        if self.ready and self.first_ready is None:
            self.first_ready = now

    def overdue(self, now: float) -> bool:
        """Tell whether it should be ready by now, and nobody has been told that it is not."""
        waited = self.unready_since is not None and now - self.unready_since >= COMPLAIN_SECONDS
        return waited and not self.complained and not self.leaving

    def patience(self) -> float:
        """Return how many seconds it may take to end, from when it began to."""
        return self.drain_timeout + KILL_GRACE if self.loaded else UNLOADED_GRACE

    def hurry(self, deadline: float) -> None:
        """Have it killed at a deadline, unless that is to happen sooner anyway."""
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)


@attrs.define(eq=False)
class Seat:
    """A place for one child, which is empty between its death and ``due``.

    Args:
        due: when an empty seat is to be filled.
        used: it has had a child.
        failures: deaths in a row, for the backoff.
        recycled: the last child made room for itself; its successor starts at once.
        hopeless: the last child said that another start would end the same way.
        successor: during a rolling restart, the child that is to take this seat.
    """

    due: float
    child: Child | None = None
    used: bool = False
    failures: int = 0
    recycled: bool = False
    hopeless: bool = False
    successor: Child | None = None


def free_slot(children: Iterable[Child]) -> int:
    """Return the lowest slot that no living child has, so that names made of it are never used twice at once."""
    taken = {child.slot for child in children}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def processes(count: int) -> str:
    """Return how many, in words."""
    return "1 process" if count == 1 else f"{count:,} processes"


def describe_status(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return {75: "to be recycled (exit code 75)", 70: "stuck (exit code 70)"}.get(
            status, f"with exit code {status}"
        )
    import signal

    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
