"""Where the demonstration is shown: moving figures on a terminal, a line a second elsewhere, nothing for programs."""

from __future__ import annotations

import time
from collections import deque
from itertools import pairwise
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pythia_core.command.output import folded, mark, safe
from pythia_core.demo.shop import Figures

__all__ = ["LiveScreen", "PlainScreen", "Rate", "SilentScreen"]

BARS = "▁▂▃▄▅▆▇█"
TICK = 0.25  # seconds that one bar of the sparkline stands for
BARS_SHOWN = 24
EVERY = 1.0  # seconds between lines of figures where nothing can move


class Rate:
    """How many a second, of late, and how it went before."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=BARS_SHOWN + 1)

    def see(self, count: int) -> None:
        """Take note of a count that only grows."""
        now = time.monotonic()
        if now - self._points[-1][0] >= TICK:
            self._points.append((now, count))

    @property
    def now(self) -> float:
        """Per second, over the last second."""
        (then, before), (now, count) = self._points[max(len(self._points) - 5, 0)], self._points[-1]
        return (count - before) / (now - then) if now > then else 0.0

    @property
    def history(self) -> str:
        """One bar for each quarter of a second."""
        points = list(self._points)
        rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points)]
        top = max(rates, default=0.0) or 1.0
        return "".join(BARS[min(int(rate / top * len(BARS)), len(BARS) - 1)] for rate in rates)


class SilentScreen:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str, level: str = "note") -> None:
        """Show nothing."""

    def show(self, figures: Figures) -> None:
        """Show nothing."""


class PlainScreen(SilentScreen):
    """Prints lines.

    Args:
        out: where to.
    """

    def __init__(self, out: Console) -> None:
        self._out = out
        self._began = time.monotonic()
        self._rate = Rate()
        self._shown = self._began

    def say(self, text: str, level: str = "note") -> None:
        """Print a sentence with its time."""
        self._out.print(Text.assemble(self._lead(level), " ", safe(text)), soft_wrap=True)

    def _lead(self, level: str) -> Text:
        return Text.assemble((f"  {time.monotonic() - self._began:5.1f} s  ", "dim"), mark(level))

    def show(self, figures: Figures) -> None:
        """Print the figures once a second."""
        self._rate.see(figures.charged)
        if time.monotonic() - self._shown >= EVERY:
            self._shown = time.monotonic()
            self.say(_line(figures, self._rate))


def _line(figures: Figures, rate: Rate) -> str:
    return (
        f"{figures.charged:,} of {figures.sent:,} done, {rate.now:,.0f}/s, {figures.in_flight:,} in flight, "
        f"{figures.retries} retried, {figures.dead} dead-lettered, {figures.customers} keys"
    )


class LiveScreen(PlainScreen):
    """Shows figures that move, below the sentences."""

    def __init__(self, out: Console) -> None:
        super().__init__(out)
        self._live = Live(console=out, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str, level: str = "note") -> None:
        """Print a sentence with its time, above the figures."""
        lead = self._lead(level)
        self._out.print(folded(Text(safe(text)), indent=lead.cell_len + 1, lead=lead))

    def show(self, figures: Figures) -> None:
        """Let the figures move."""
        self._rate.see(figures.charged)
        bar = ProgressBar(total=figures.sent, completed=figures.charged + figures.dead, width=58)
        top = Table.grid(padding=(0, 2, 0, 0))
        top.add_row("", bar, Text(f"{figures.charged:,} of {figures.sent:,}"))
        self._live.update(Group(Text(), top, Text(), _table(figures, self._rate)), refresh=True)


def _table(figures: Figures, rate: Rate) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(style="bold", width=13)
    table.add_column(justify="right", style="bold cyan", min_width=8)
    table.add_column(style="dim")
    table.add_row("", "rate", f"{rate.now:,.0f}/s", Text(rate.history, style="cyan"))
    table.add_row("", "in flight", f"{figures.in_flight:,}", f"fetched ahead; {figures.at_work} at work")
    table.add_row("", "done", f"{figures.charged:,}", "charged by the payment service")
    table.add_row("", "retried", f"{figures.retries:,}", "it was down; other customers did not wait")
    table.add_row("", "dead-lettered", f"{figures.dead:,}", "put aside with the reason")
    table.add_row("", "keys", f"{figures.customers:,}", "customers, each served in turn")
    return table
