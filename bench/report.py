"""What the results look like: tables for people, JSON for programs. Losses are shown like everything else."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from bench.harness import Bench, Result, Standing
from bench.probe import Findings, Found, Probe

WIDTH = 170  # columns, at least: a table that is folded cannot be compared
RACE = ("messages/s", "CPU us each", "us more", "x CPU", "x time", "x speed", "least - most", "goal", "")
PROBE = ("figure", "value", "least - most", "ratio", "goal", "")
VERDICT = {None: "", True: "reached", False: "[bold red]goal missed[/]"}


def wide_console() -> Console:
    """Return a console wide enough for the tables, also where it is no terminal and rich would take 80 columns."""
    return Console(width=max(Console().width, WIDTH))


def show(console: Console, result: Result | Findings) -> None:
    """Print one bench or probe."""
    if isinstance(result, Result):
        _print(console, result.bench, RACE, [_standing_row(each) for each in result.standings])
        rounds = len(result.standings[0].turns)
    else:
        _print(console, result.probe, PROBE, [_found_row(each) for each in result.found])
        rounds = len(result.found[0].values)
    what = result.bench if isinstance(result, Result) else result.probe
    console.print(
        f"{result.messages:,} messages, {rounds} round(s), medians; load average {result.load[0]:.1f} before and "
        f"{result.load[1]:.1f} after, on {os.cpu_count()} cores; {_text(versions(what))}\n",
        style="dim",
        highlight=False,
    )


def _print(console: Console, what: Bench | Probe, columns: Sequence[str], rows: Sequence[list[str]]) -> None:
    table = Table(title=f"{what.name}: {what.title}", title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _standing_row(standing: Standing) -> list[str]:
    ratio, speeds = standing.time_ratio, [1 / ratio for ratio in standing.time_ratios]
    return [
        standing.contender.name,
        f"{standing.rate:,.0f}",
        f"{standing.cpu_micros:.3f}",
        f"{standing.more:+.3f}",
        f"{standing.cpu_ratio:.2f}",
        f"{ratio:.2f}",
        f"{1 / ratio:.2f}",
        f"{min(speeds):.2f} - {max(speeds):.2f}",
        str(standing.contender.goal or ""),
        VERDICT[standing.reached],
    ]


def _found_row(found: Found) -> list[str]:
    return [
        found.subject.name,
        found.figure.name,
        f"{found.value:,.4g} {found.figure.unit}",
        f"{min(found.values):,.4g} - {max(found.values):,.4g}",
        "" if found.ratio is None else f"{found.ratio:.2f}",
        found.figure.goal,
        VERDICT[found.reached],
    ]


def conclude(console: Console, results: Sequence[Result | Findings]) -> None:
    """Print which goals were missed."""
    for text in [text for result in results for text in result.missed]:
        console.print(f"Goal missed: {text}.", style="red")


def versions(what: Bench | Probe) -> dict[str, str]:
    """Return the versions of what is compared."""
    return {name: _version(name) for name in what.packages} | {
        name: _program_version(name) for name in what.programs
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _program_version(name: str) -> str:
    """Return the first line of what a program says of its version."""
    told = subprocess.run([name, "--version"], check=True, capture_output=True, text=True, timeout=10)
    return told.stdout.splitlines()[0].removeprefix("Redis server v=").split(" sha=")[0]


def _text(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in {"Python": _python(), **found}.items())


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def as_data(results: Sequence[Result | Findings]) -> dict[str, Any]:
    """Return everything that was measured, for JSON."""
    return {
        "python": _python(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "benches": [_bench(result) for result in results if isinstance(result, Result)],
        "probes": [_probe(result) for result in results if isinstance(result, Findings)],
        "missed": [text for result in results for text in result.missed],
    }


def _about(what: Bench | Probe, result: Result | Findings) -> dict[str, Any]:
    return {
        "name": what.name,
        "title": what.title,
        "messages": result.messages,
        "load": result.load,
        "versions": versions(what),
    }


def _bench(result: Result) -> dict[str, Any]:
    return _about(result.bench, result) | {"contenders": [_standing(each) for each in result.standings]}


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "name": standing.contender.name,
        "goal": str(standing.contender.goal) if standing.contender.goal else None,
        "reached": standing.reached,
        "time_ratio": standing.time_ratio,
        "cpu_ratio": standing.cpu_ratio,
        "cpu_micros_more": standing.more,
        "time_ratios": standing.time_ratios,
        "messages_per_second": standing.rate,
        "cpu_micros": standing.cpu_micros,
        "turns": [attrs.asdict(turn) for turn in standing.turns],
    }


def _probe(result: Findings) -> dict[str, Any]:
    return _about(result.probe, result) | {"figures": [_found(each) for each in result.found]}


def _found(found: Found) -> dict[str, Any]:
    return {
        "subject": found.subject.name,
        "name": found.figure.name,
        "unit": found.figure.unit,
        "goal": found.figure.goal or None,
        "reached": found.reached,
        "value": found.value,
        "ratio": found.ratio,
        "values": list(found.values),
    }
