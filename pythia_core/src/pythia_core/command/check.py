"""``pythia check``: prints what is good and what is wrong about a worker, before it is run."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import attrs
import click
from rich.text import Text

from pythia_core.checking import Finding, Plan, check_target
from pythia_core.command.output import bullet, console, json_option, print_json, safe

__all__ = ["command"]


@click.command()
@click.argument("target", metavar="FILE|MODULE[:CLASS]")
@click.option(
    "-n", "--processes", default=1, type=click.IntRange(min=1), help="How many processes there will be."
)
@click.option("--policy", help="What will decide how many, as for `pythia run`. [default: the file's]")
@click.option("--config", "file", type=click.Path(path_type=Path), help="A configuration file (TOML).")
@click.option("--connect", is_flag=True, help="Also ask the brokers; nothing is consumed or written.")
@json_option
def command(
    target: str, processes: int, policy: str | None, file: Path | None, connect: bool, as_json: bool
) -> None:
    """Say what is good and what is wrong about a worker.

    Imports the worker and resolves its settings just as `pythia run` does, and connects to nothing unless told to. Exits
    1 if anything is wrong.
    """
    plan = Plan(environ=os.environ, file=file, processes=processes, policy=policy, connect=connect)
    findings = [attrs.evolve(found, text=safe(found.text)) for found in check_target(target, plan)]
    if as_json:
        print_json([attrs.asdict(found) for found in findings])
    else:
        _print(findings)
    raise SystemExit(1 if any(found.level == "error" for found in findings) else 0)


def _print(findings: list[Finding]) -> None:
    out = console()
    for worker, group in groupby(findings, key=lambda found: found.worker):
        if worker:
            out.print(Text(worker, style="bold"))
        for found in group:
            out.print(bullet(found.level, found.text, indent=2 if worker else 0))
    errors = sum(found.level == "error" for found in findings)
    warnings = sum(found.level == "warning" for found in findings)
    out.print(Text(_summary(errors, warnings), style="red" if errors else "bold"))


def _summary(errors: int, warnings: int) -> str:
    aside = f", {warnings} to think about" if warnings else ""
    return f"{errors} wrong{aside}" if errors else f"good to run{aside}"
