"""``pythia run``: runs workers under a supervisor, one process or many."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


def _pairs(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read NAME=VALUE arguments."""
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as batch_size=100")
        pairs[name.replace("-", "_")] = value
    return pairs


@click.command()
@click.argument("target", metavar="FILE|MODULE[:CLASS]")
@click.option(
    "-n", "--processes", default=1, show_default=True, type=click.IntRange(min=1), help="How many processes."
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="A configuration file (TOML).")
@click.option(
    "-o",
    "--option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs,
    help="A setting of the worker, such as batch_size=100 or retry.attempts=3; repeatable, and above all others.",
)
@click.option("--uvloop", is_flag=True, help="Run on uvloop, a faster event loop.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Lines for people or for machines.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"]),
    help="The least that is logged.",
)
def command(
    target: str,
    processes: int,
    file: Path | None,
    options: dict[str, str],
    uvloop: bool,
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Run workers, one process or many.

    Without a class, every worker that the file defines runs, all of them in each process.

    Signals: SIGTERM or Ctrl-C drains and ends; once more, 2 s later or more, skips the drain. SIGHUP replaces one process
    at a time. SIGTTIN adds a process, SIGTTOU drains the idlest.
    """
    from pythia_core.supervisor import trap

    trap.install()  # before all that takes long to import: a signal that comes now waits

    overrides: dict[str, Any] = {
        "log_format": log_format,
        "log_level": log_level,
        "uvloop": True if uvloop else None,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    raise SystemExit(_supervise(target, processes, file, {**given, **options}))


def _supervise(target: str, processes: int, file: Path | None, overrides: dict[str, Any]) -> int:
    from pythia_core import logs
    from pythia_core.config import resolve
    from pythia_core.supervisor.shell import Supervisor
    from pythia_core.supervisor.views import choose_view
    from pythia_core.supervisor.wire import Options

    said = resolve(overrides=overrides, environ=os.environ, file=file)
    logs.configure(said.log_level, said.log_format)
    options = Options(target=target, config=str(file) if file else None, overrides=overrides)
    return Supervisor(options, processes, choose_view(sys.stderr, os.environ)).run()
