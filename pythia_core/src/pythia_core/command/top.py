"""``pythia top``: watches a running fleet, from another terminal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from pythia_core.command.fleets import ask, find, find_all, fleet_option
from pythia_core.command.output import json_option, print_json
from pythia_core.supervisor.figures import Row, Totals
from pythia_core.supervisor.views import Overview, Queue, summary

__all__ = ["command"]

FIRST_SECONDS, LOOK = 4.0, 0.2
LEAST = 6  # lines of a fleet: its title, what is left, a process, and the sum


@click.command()
@click.option(
    "--every",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once; the default where nobody watches.")
@click.option(
    "--all", "every_fleet", is_flag=True, help="Watch all fleets, one below the other; a list in JSON."
)
@json_option
@fleet_option
def command(every: float, once: bool, as_json: bool, every_fleet: bool, fleet: str | None) -> None:
    """Watch a running fleet: what is left, what its processes do, and what holds them up.

    Of each worker: how many messages wait, how old the oldest is, how many come and go, and when nothing is left if that
    goes on. Below the processes stands what holds them up, and which message. Ctrl-C ends the view, not the fleet.
    """
    if every_fleet and fleet is not None:
        raise click.UsageError("--all and --fleet do not go together")
    paths = find_all() if every_fleet else [find(fleet)]
    if as_json:
        print_json([_once(path) for path in paths] if every_fleet else _once(paths[0]))
    elif once or not sys.stdout.isatty():
        for path in paths:
            for line in _lines(path, os.environ.get("COLUMNS")):
                click.echo(line)
    else:
        _watch(paths, every)


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


def _watch(paths: list[Path], every: float) -> None:
    """Draw until interrupted, or until the fleets have ended; on a screen of its own, so that the shell's comes back."""
    last: dict[Path, Overview] = {}
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)
    try:
        while living := [path for path in paths if path.exists()]:
            last |= {path: overview(ask(path, {"do": "show"})) for path in living}
            drawn = _drawn([last[path] for path in living], *os.get_terminal_size())
            click.echo("\x1b[H" + "\x1b[K\r\n".join(drawn) + "\x1b[J", nl=False)
            time.sleep(every)
    except KeyboardInterrupt:
        pass
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    for seen in last.values():
        click.echo(summary(seen))


def _drawn(shown: list[Overview], width: int, height: int) -> list[str]:
    """Return what fits on a screen: of several fleets each has its part, and the last ones are cut where that is too small."""
    from pythia_core.supervisor.panel import render

    colour = not os.environ.get("NO_COLOR")
    part = max(LEAST, (height - 1) // len(shown))
    return [line for fleet in shown for line in render(fleet, width, part, colour=colour)][: height - 1]


def overview(shown: dict[str, Any]) -> Overview:
    """Return what a fleet has shown, as its own view has it."""
    rows = tuple(
        Row(**{**row, "totals": Totals(**row["totals"]), "reasons": tuple(row["reasons"])})
        for row in shown["rows"]
    )
    queues = tuple(Queue(**queue) for queue in shown["queues"])
    return Overview(**{**shown, "rows": rows, "queues": queues, "totals": Totals(**shown["totals"])})
