"""The panel at the bottom of a terminal: a table of the processes that stays while their log lines scroll above it.

The children write to the terminal themselves, since a pipe through the supervisor would break their prints the moment it
dies. So the panel reserves the lowest rows by the terminal's scrolling region (DECSTBM, as apt's progress bar does): what
anybody prints scrolls above, and nobody has to know. Each drawing is one write, which a terminal does not mix with others.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Collection, Mapping
from typing import IO, Literal

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pythia_core.supervisor.figures import Row, Totals
from pythia_core.supervisor.views import SMALLEST, Overview, Queue, count, restarts, summary

__all__ = ["Panel", "render"]

SAVE, RESTORE = "\x1b7", "\x1b8"
MIB = 1 << 20
ROOMY = 20  # lines, from which on there is room for empty ones
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
QUEUE_COLUMNS = {
    "worker": 0,
    "reads": 90,
    "waiting": 0,
    "unsettled": 0,
    "oldest": 0,
    "in": 70,
    "out": 70,
    "empty in": 0,
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
    """Return the panel's lines, at most so many: what is left, the processes, and what holds them up.

    A large fleet is its sum and the processes that need a look.
    """
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
    room = most - 4  # beside the title: the processes' header, one of them, and the sum
    gap = ["\n"] if most >= ROOMY else []
    if queues := overview.queues[: max(0, room - 1)]:
        console.print(_queues(queues, width), *gap, sep="", end="")
        room -= len(queues) + 1 + len(gap)
    held = [line for text in _held(overview) for line in text.wrap(console, width)]
    held = held[: max(0, (room - len(gap)) // 2)]
    console.print(_table(overview, max(0, room + 1 - len(gap) - len(held)), width), *gap, sep="", end="")
    for line in held:
        console.print(line)
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


def _queues(queues: tuple[Queue, ...], width: int) -> Table:
    table = _columns(QUEUE_COLUMNS, width, left=("worker", "reads"))
    for queue in queues:
        known = {
            "worker": queue.worker,
            "reads": queue.destination,
            "waiting": _known(queue.waiting, count) + ("+" if queue.at_least else ""),
            "unsettled": _known(queue.in_flight, count),
            "oldest": _known(queue.oldest, _duration),
            "in": _known(queue.arrivals, _per_second),
            "out": _known(queue.settled, _per_second),
            "empty in": queue.outlook if isinstance(queue.outlook, str) else _duration(queue.outlook),
        }
        table.add_row(*(known[name] for name, least in QUEUE_COLUMNS.items() if width >= least), "")
    return table


def _table(overview: Overview, most: int, width: int) -> Table:
    table = _columns(COLUMNS, width, left=("process", "pid", "state"))
    shown = [name for name, least in COLUMNS.items() if width >= least]
    rows = sorted(overview.rows, key=lambda row: (row.state == "ready", not row.reasons, row.slot))[:most]
    for row in sorted(rows, key=lambda row: row.slot):
        cells = {"process": str(row.number), "pid": str(row.pid), **_figures(row.totals)}
        cells["busy"] = f"{row.busy:.0%}"
        cells["state"] = Text(row.state, style=STATES.get(row.state, ""))
        table.add_row(*(cells[name] for name in shown), "")
    if len(overview.rows) != 1:
        sums: dict[str, str | Text] = {"process": "all", **_figures(overview.totals)}
        table.add_row(*(sums.get(name, "") for name in shown), _hidden(overview, len(rows)), style="bold")
    return table


def _columns(columns: Mapping[str, int], width: int, left: Collection[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, expand=True)
    for name in (name for name, least in columns.items() if width >= least):
        justify: Literal["left", "right"] = "left" if name in left else "right"
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=len(name))
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1, min_width=1)
    return table


def _held(overview: Overview) -> list[Text]:
    """Return what holds processes up, each reason once, with the processes that have it; the gravest first."""
    having: dict[str, list[Row]] = {}
    for row in overview.rows:
        for reason in row.reasons:
            having.setdefault(reason, []).append(row)
    grave = sorted(having.items(), key=lambda item: all(row.state == "ready" for row in item[1]))
    return [_line(reason, rows) for reason, rows in grave]


def _line(reason: str, rows: list[Row]) -> Text:
    who = ", ".join(str(row.number) for row in rows[:8]) + (" ..." if len(rows) > 8 else "")
    style = "dim" if all(row.state == "ready" for row in rows) else "yellow"
    return Text.assemble((f"{who}: ", "bold"), (reason, style))


def _hidden(overview: Overview, shown: int) -> str:
    hidden = len(overview.rows) - shown
    return f"{hidden} more are ready" if hidden else ""


def _known(value: float | None, show: Callable[[float], str]) -> str:
    return "?" if value is None else show(value)


def _per_second(rate: float) -> str:
    return f"{count(rate)}/s"


def _figures(totals: Totals) -> dict[str, str | Text]:
    return {
        "rate": _per_second(totals.rate),
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
