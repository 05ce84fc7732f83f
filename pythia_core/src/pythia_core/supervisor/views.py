"""What people see of a fleet: an overview, and the plain way to show one, as log lines that do not repeat themselves."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import IO, Literal, Protocol

import attrs

from pythia_core.supervisor.figures import Row, Totals

__all__ = ["SMALLEST", "LogLines", "Overview", "Queue", "View", "choose_view", "count", "restarts", "summary"]

log = logging.getLogger("pythia.supervisor")

LINE_SECONDS = 10.0  # between lines while figures change
QUIET_SECONDS = 60.0  # while they do not
SMALLEST = 10  # rows of a terminal that has room for a panel


@attrs.frozen(kw_only=True)
class Queue:
    """What is left where one worker reads; None is what is not known.

    Args:
        worker: its name.
        destination: where it reads.
        waiting, in_flight: messages not delivered, and delivered but not settled.
        at_least: True if ``waiting`` is only a lower bound.
        oldest: age of the oldest unsettled message in seconds.
        arrivals, settled: messages a second, over the last 15 s.
    """

    worker: str
    destination: str
    waiting: int | None = None
    in_flight: int | None = None
    at_least: bool = False
    oldest: float | None = None
    arrivals: float | None = None
    settled: float | None = None

    @property
    def outlook(self) -> float | Literal["?", "stalled", "grows"]:
        """Seconds until nothing is left if all goes on as it does, or in a word why that will never be."""
        if self.waiting is None or self.arrivals is None or self.settled is None:
            return "?"
        left = self.waiting + (self.in_flight or 0)
        if left and not self.settled:
            return "stalled"
        gain = self.settled - self.arrivals
        return 0.0 if not left else left / gain if gain > 0 else "grows"


@attrs.frozen(kw_only=True)
class Overview:
    """A fleet at one moment.

    Args:
        target: how many processes there should be; ``ready`` how many consume.
        rows: the living, by slot.
        queues: what is left, by worker; empty until somebody has asked for it.
        totals: of all, the dead included.
        restarts: how many had to be replaced.
        stopping: True from the first signal on.
        paused: whether an operator has paused it.
        pinned: whether an operator has pinned the number of processes.
        uptime: seconds.
        title: what is run.
    """

    target: int
    ready: int
    rows: tuple[Row, ...]
    queues: tuple[Queue, ...] = ()
    totals: Totals
    restarts: int
    stopping: bool
    paused: bool = False
    pinned: bool = False
    uptime: float
    title: str


class View(Protocol):
    """Shows overviews."""

    def show(self, overview: Overview, now: float) -> None:
        """Show the present state; called about once a second."""
        ...

    def resize(self) -> None:
        """Take note that the terminal has another size, or is ours again."""
        ...

    def close(self, overview: Overview) -> None:
        """Show the last state and clean up."""
        ...


def choose_view(stream: IO[str], environ: Mapping[str, str]) -> View:
    """Return the panel where there is a terminal for it, and log lines elsewhere."""
    try:
        able = stream.isatty() and os.get_terminal_size(stream.fileno()).lines >= SMALLEST
    except (OSError, ValueError):
        able = False
    if not able or environ.get("TERM", "dumb") == "dumb":
        return LogLines()
    from pythia_core.supervisor.panel import Panel

    return Panel(stream, colour=not environ.get("NO_COLOR"))


@attrs.define(eq=False)
class LogLines:
    """A line every 10 s while something happens, and every minute while nothing does."""

    _next: float | None = None
    _quiet_until: float = 0.0
    _last: Totals | None = None

    def show(self, overview: Overview, now: float) -> None:
        """Log a line if it is time for one; the first comes after 10 s, since a start logs enough."""
        if self._next is None:
            self._next, self._quiet_until = now + LINE_SECONDS, now + QUIET_SECONDS
        if now < self._next or (not self._changed(overview.totals) and now < self._quiet_until):
            return
        log.info("%s", summary(overview))
        self._next, self._quiet_until, self._last = now + LINE_SECONDS, now + QUIET_SECONDS, overview.totals

    def _changed(self, totals: Totals) -> bool:
        """Tell whether anything was done; memory and rates always move a little."""
        last = self._last or Totals()
        names = ("done", "in_flight", "retried", "dead_lettered", "failures")
        return any(getattr(totals, name) != getattr(last, name) for name in names)

    def resize(self) -> None:
        """Do nothing: lines have no size."""

    def close(self, overview: Overview) -> None:
        """Log the last figures, if there are any."""
        if overview.totals != Totals():
            log.info("%s", summary(overview))


def summary(overview: Overview) -> str:
    """Return an overview in one line."""
    totals = overview.totals
    state = f"{overview.ready} of {overview.target} ready"
    if overview.stopping:
        state = f"{len(overview.rows)} draining" if overview.rows else "stopped"
    return (
        f"{state}, {count(totals.rate)}/s, {count(totals.in_flight)} in flight, {count(totals.done)} done, "
        f"{count(totals.retried)} retried, {count(totals.dead_lettered)} dead letters, {restarts(overview)}"
    )


def restarts(overview: Overview) -> str:
    """Return how many there were, in words."""
    return "1 restart" if overview.restarts == 1 else f"{overview.restarts:,} restarts"


def count(number: float) -> str:
    """Return a number as people read one: ``12,345``, ``0.4``."""
    return f"{number:.1f}" if 0 < number < 10 and number != int(number) else f"{number:,.0f}"
