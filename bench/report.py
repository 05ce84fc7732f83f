"""What the results look like: tables for people, JSON for programs. Losses are shown like everything else."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness import Bench, Result, Standing, missed

WIDTH = 140  # columns, at least: a table that is folded cannot be compared
COLUMNS = ("messages/s", "CPU us each", "x CPU", "x time", "x speed", "least - most", "goal", "reached")


def wide_console() -> Console:
    """Return a console wide enough for the tables, also where it is no terminal and rich would take 80 columns."""
    return Console(width=max(Console().width, WIDTH))


def show(console: Console, result: Result) -> None:
    """Print one bench."""
    bench = result.bench
    pairs = len(result.standings[0].turns)
    table = Table(title=f"{bench.name}: {bench.title}", title_justify="left", title_style="bold")
    table.add_column("contender", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for standing in result.standings:
        table.add_row(*_row(standing))
    console.print(table)
    console.print(
        f"{result.messages:,} messages, {pairs} rounds, medians; load average {result.load[0]:.1f} before and "
        f"{result.load[1]:.1f} after, on {os.cpu_count()} cores; {_text(versions(bench))}\n",
        style="dim",
        highlight=False,
    )


def _row(standing: Standing) -> list[str]:
    ratio, speeds = standing.time_ratio, [1 / ratio for ratio in standing.time_ratios]
    goal = standing.contender.goal
    verdict = {None: "", True: "yes", False: "[bold red]NO[/]"}[standing.reached]
    return [
        standing.contender.name,
        f"{standing.rate:,.0f}",
        f"{standing.cpu_micros:.3f}",
        f"{standing.cpu_ratio:.2f}",
        f"{ratio:.2f}",
        f"{1 / ratio:.2f}",
        f"{min(speeds):.2f} - {max(speeds):.2f}",
        str(goal) if goal else "",
        verdict,
    ]


def conclude(console: Console, results: Sequence[Result]) -> None:
    """Print which goals were not reached."""
    for standing in missed(results):
        console.print(f"Not reached: {standing.contender.name}, {standing.contender.goal}.", style="red")


def versions(bench: Bench) -> dict[str, str]:
    """Return the versions of what a bench compares."""
    return {name: _version(name) for name in bench.packages}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _text(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in {"Python": _python(), **found}.items())


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def as_data(results: Sequence[Result]) -> dict[str, Any]:
    """Return everything that was measured, for JSON."""
    return {
        "python": _python(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "benches": [_bench(result) for result in results],
    }


def _bench(result: Result) -> dict[str, Any]:
    return {
        "name": result.bench.name,
        "title": result.bench.title,
        "messages": result.messages,
        "load": result.load,
        "versions": versions(result.bench),
        "contenders": [_standing(standing) for standing in result.standings],
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "name": standing.contender.name,
        "goal": str(standing.contender.goal) if standing.contender.goal else None,
        "reached": standing.reached,
        "time_ratio": standing.time_ratio,
        "cpu_ratio": standing.cpu_ratio,
        "time_ratios": standing.time_ratios,
        "messages_per_second": standing.rate,
        "cpu_micros": standing.cpu_micros,
        "turns": [{"seconds": turn.seconds, "cpu_seconds": turn.cpu_seconds} for turn in standing.turns],
    }
