"""The panel at the bottom of a terminal: a table of the processes that stays while their log lines scroll above it.

The children write to the terminal themselves, since a pipe through the supervisor would break their prints the moment it
dies. So the panel reserves the lowest rows by the terminal's scrolling region (DECSTBM, as apt's progress bar does): what
anybody prints scrolls above, and nobody has to know. Each drawing is one write, which a terminal does not mix with others.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import IO

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pythia_core.supervisor.figures import Row, Totals
from pythia_core.supervisor.views import SMALLEST, Overview, count, restarts, summary

__all__ = ["Panel", "render"]

SAVE, RESTORE = "\x1b7", "\x1b8"
MIB = 1 << 20
STATES = {"ready": "green", "draining": "yellow", "waiting": "yellow", "starting": "cyan", "silent": "red"}
COLUMNS = {
    "process": 0,
    "pid": 100,
    "state": 0,
    "rate": 0,
    "in flight": 70,
    "busy": 110,
    "done": 0,
    "retried": 80,
    "dead letters": 0,
    "memory": 90,
}
"""Each column with the least width of a terminal that has room for it."""

LEAST_TITLE = 12  # columns, which even a narrow terminal spares for the name of what is run
RULE = 4  # columns that a rule has at its title's end


@attrs.define(eq=False)
class Panel:
    """Draws on a terminal.

    Args:
        stream: the terminal.
        colour: False to draw in one colour.
    """

    stream: IO[str]
    colour: bool = True
    _rows: int = attrs.field(default=0, init=False)
    _size: tuple[int, int] = attrs.field(default=(0, 0), init=False)

    def show(self, overview: Overview, now: float) -> None:
        """Draw it, if the terminal is ours at present."""
        if not self._in_foreground():
            return
        width, height = os.get_terminal_size(self.stream.fileno())
        if height < SMALLEST:
            self._write(self._give_up())
            return
        lines = render(overview, width, max(3, height // 2), colour=self.colour)
        if len(lines) != self._rows or (width, height) != self._size:
            self._write(self._give_up() + self._reserve(len(lines), width, height))
        rows = [f"\x1b[{height - len(lines) + 1 + i};1H\x1b[2K{line}" for i, line in enumerate(lines)]
        self._write(SAVE + "".join(rows) + RESTORE)

    def resize(self) -> None:
        """Reserve the rows anew at the next drawing."""
        self._size = (0, 0)

    def close(self, overview: Overview) -> None:
        """Give the rows back, and leave the last figures as a line."""
        self._write(self._give_up())
        if self._in_foreground():
            self._write(f"{summary(overview)}\n")

    def _reserve(self, rows: int, width: int, height: int) -> str:
        """Make room below the cursor, and let only what is above it scroll from now on."""
        self._rows, self._size = rows, (width, height)
        return "\n" * rows + f"\x1b[{rows}A" + SAVE + f"\x1b[1;{height - rows}r" + RESTORE

    def _give_up(self) -> str:
        """Let everything scroll again, and wipe the panel."""
        if not self._rows:
            return ""
        _, height = os.get_terminal_size(self.stream.fileno())
        rows, self._rows = self._rows, 0
        return SAVE + "\x1b[r" + f"\x1b[{height - rows + 1};1H\x1b[J" + RESTORE

    def _in_foreground(self) -> bool:
        """Tell whether the terminal is ours: a job in the background must leave the shell's screen alone."""
        try:
            return os.tcgetpgrp(self.stream.fileno()) == os.getpgrp()
        except OSError:
            return False

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal has gone; its hangup comes as a signal
            if text:
                self.stream.flush()
                os.write(self.stream.fileno(), text.encode())


def render(overview: Overview, width: int, most: int, *, colour: bool) -> list[str]:
    """Return the panel's lines, at most so many; a large fleet is its sum and the processes that need a look."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        height=most,
        force_terminal=True,
        color_system="standard" if colour else None,
        no_color=not colour,
        legacy_windows=False,
    )
    console.rule(_title(overview, width), style="dim", align="left")
    console.print(_table(overview, most - 3, width))
    return out.getvalue().rstrip("\n").split("\n")


def _title(overview: Overview, width: int) -> Text:
    """Return what is run and how it is; of a long path the end is shown, so that there is room for the rest."""
    state = "stopping" if overview.stopping else f"{overview.ready} of {overview.target} ready"
    style = "yellow" if overview.stopping or overview.ready < overview.target else "green"
    rest = Text.assemble("  ", (state, style), f"  up {_duration(overview.uptime)}")
    for mark in ("paused", "pinned"):
        rest.append(f"  {mark}" if getattr(overview, mark) else "", "yellow")
    rest.append(f"  {restarts(overview)}" if overview.restarts else "")
    room = max(width - len(rest) - RULE, LEAST_TITLE)
    name = overview.title if len(overview.title) <= room else f"…{overview.title[1 - room :]}"
    return Text(name, "bold").append_text(rest)


def _table(overview: Overview, most: int, width: int) -> Table:
    shown = [name for name, least in COLUMNS.items() if width >= least]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, expand=True)
    for name in shown:
        left = name in ("process", "pid", "state")
        table.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=len(name))
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1, min_width=1)
    rows = sorted(overview.rows, key=lambda row: (row.state == "ready", row.slot))[: max(0, most)]
    for row in sorted(rows, key=lambda row: row.slot):
        cells = {"process": str(row.number), "pid": str(row.pid), **_figures(row.totals)}
        cells["busy"] = f"{row.busy:.0%}"
        cells["state"] = Text(row.state, style=STATES.get(row.state, ""))
        table.add_row(*(cells[name] for name in shown), _reason(row))
    if len(overview.rows) != 1:
        sums: dict[str, str | Text] = {"process": "all", **_figures(overview.totals)}
        table.add_row(*(sums.get(name, "") for name in shown), _hidden(overview, len(rows)), style="bold")
    return table


def _reason(row: Row) -> Text:
    """Return what holds a process up; of one that is ready it is good to know, and nothing to worry about."""
    return Text(row.reason, style="dim" if row.state == "ready" else "yellow")


def _hidden(overview: Overview, shown: int) -> str:
    hidden = len(overview.rows) - shown
    return f"{hidden} more are ready" if hidden else ""


def _figures(totals: Totals) -> dict[str, str | Text]:
    return {
        "rate": f"{count(totals.rate)}/s",
        "in flight": count(totals.in_flight),
        "done": count(totals.done),
        "retried": count(totals.retried),
        "dead letters": count(totals.dead_lettered),
        "memory": f"{totals.rss // MIB:,} MiB",
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
