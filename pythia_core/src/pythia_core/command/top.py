"""``pythia top``: watches a running fleet, from another terminal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from pythia_core.command.fleets import ask, find, fleet_option
from pythia_core.command.output import json_option, print_json
from pythia_core.supervisor.figures import Row, Totals
from pythia_core.supervisor.views import Overview, Queue, summary

__all__ = ["command"]

FIRST_SECONDS, LOOK = 4.0, 0.2


@click.command()
@click.option(
    "--every",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once; the default where nobody watches.")
@json_option
@fleet_option
def command(every: float, once: bool, as_json: bool, fleet: str | None) -> None:
    """Watch a running fleet: what is left, what its processes do, and what holds them up.

    Of each worker: how many messages wait, how old the oldest is, how many come and go, and when nothing is left if that
    goes on. Below the processes stands what holds them up, and which message. Ctrl-C ends the view, not the fleet.
    """
    path = find(fleet)
    if as_json:
        print_json(_once(path))
    elif once or not sys.stdout.isatty():
        for line in _lines(path, os.environ.get("COLUMNS")):
            click.echo(line)
    else:
        _watch(path, every)


def _lines(path: Path, columns: str | None = None, most: int = 1_000) -> list[str]:
    from pythia_core.supervisor.panel import render

    width = int(columns) if columns and columns.isdecimal() else 120
    return render(overview(_once(path)), width, most, colour=False)


def _once(path: Path) -> dict[str, Any]:
    """Return what a fleet shows; the first look has it ask what is left, which takes a moment."""
    shown = ask(path, {"do": "show"})
    until = time.monotonic() + FIRST_SECONDS
    while shown["ready"] and not shown["queues"] and time.monotonic() < until:
        time.sleep(LOOK)
        shown = ask(path, {"do": "show"})
    return shown


def _watch(path: Path, every: float) -> None:
    """Draw until interrupted, or until the fleet has ended; on a screen of its own, so that the shell's comes back."""
    from pythia_core.supervisor.panel import render

    colour = not os.environ.get("NO_COLOR")
    last = overview(ask(path, {"do": "show"}))
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)
    try:
        while path.exists():
            last = overview(ask(path, {"do": "show"}))
            width, height = os.get_terminal_size()
            drawn = render(last, width, height - 1, colour=colour)
            click.echo("\x1b[H" + "\x1b[K\r\n".join(drawn) + "\x1b[J", nl=False)
            time.sleep(every)
    except KeyboardInterrupt:
        pass
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    click.echo(summary(last))


def overview(shown: dict[str, Any]) -> Overview:
    """Return what a fleet has shown, as its own view has it."""
    rows = tuple(
        Row(**{**row, "totals": Totals(**row["totals"]), "reasons": tuple(row["reasons"])})
        for row in shown["rows"]
    )
    queues = tuple(Queue(**queue) for queue in shown["queues"])
    return Overview(**{**shown, "rows": rows, "queues": queues, "totals": Totals(**shown["totals"])})
