"""``pythia run``: runs workers under a supervisor, one process or many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pythia_core.supervisor.starting import Plan

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
    "-n", "--processes", type=click.IntRange(min=1), help="How many processes, always. [default: 1]"
)
@click.option(
    "--min", "least", type=click.IntRange(min=1), help="The fewest processes that a policy may leave."
)
@click.option("--max", "most", type=click.IntRange(min=1), help="The most processes that a policy may start.")
@click.option(
    "--policy",
    metavar="NAME",
    help="What decides how many, between --min and --max. [default: the file's, or drain]",
)
@click.option(
    "--scale-down-window",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="For how long fewer must do before there are fewer; an option of the policy.",
)
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    envvar="PYTHIA_LISTEN",
    help="Where to answer for metrics and health; without a host only this machine is answered.",
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
@click.option("--reload", is_flag=True, help="Restart one by one when a file beside the worker changes.")
@click.option(
    "--control",
    metavar="PATH|none",
    help="The socket for pythia top, scale, pause and resume; by default in a folder of this user's own.",
)
@click.option(
    "--each",
    is_flag=True,
    help="Give each worker of the file processes of its own: -n, --min, --max and --policy hold for each by itself.",
)
def command(
    target: str,
    processes: int | None,
    least: int | None,
    most: int | None,
    policy: str | None,
    scale_down_window: float | None,
    listen: str | None,
    file: Path | None,
    options: dict[str, str],
    uvloop: bool,
    log_format: str | None,
    log_level: str | None,
    reload: bool,
    control: str | None,
    each: bool,
) -> None:
    """Run workers, one process or many.

    Without a class, every worker that the file defines runs, all of them in each process; with --each every one has
    processes of its own.

    Signals: SIGTERM or Ctrl-C drains and ends; once more, 2 s later or more, skips the drain. SIGHUP replaces one process
    at a time. SIGTTIN adds a process, SIGTTOU drains the idlest.

    Example: pythia run worker.py -n 4

    Example: pythia run worker.py --min 1 --max 8 --policy drain --listen 9464

    Example: pythia run pipeline.py --each --min 1 --max 4
    """
    from pythia_core.supervisor import trap

    trap.install()  # before all that takes long to import: a signal that comes now waits

    from pythia_core.supervisor.starting import Plan, supervise

    overrides: dict[str, Any] = {
        "log_format": log_format,
        "log_level": log_level,
        "uvloop": True if uvloop else None,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    scaling = _scaling(policy, scale_down_window)
    bounds = _bounds(processes, least, most, scaled=bool(scaling) or least is not None or most is not None)
    if scaling:
        given["scaling"] = scaling
    plan = Plan(
        target=target,
        least=bounds[0],
        most=bounds[1],
        scaled=most is not None,
        config=str(file) if file else None,
        overrides={**given, **options},
        listen=listen,
        control=control,
        reload=reload,
    )
    raise SystemExit(_each(plan) if each else supervise(plan))


def _each(plan: Plan) -> int:
    """Check what is said for all, so that an error is told once; then run a fleet for each worker."""
    from pythia_core import logs
    from pythia_core.config import resolve
    from pythia_core.supervisor.stages import supervise_each

    file = Path(plan.config) if plan.config else None
    said = resolve(overrides=plan.overrides, environ=os.environ, file=file)
    logs.configure(said.log_level, said.log_format)
    return supervise_each(plan)


def _scaling(policy: str | None, window: float | None) -> dict[str, Any]:
    """Return what the options say of the policy; without any it is the file's, or else the default."""
    from pythia_core.supervisor.starting import DEFAULT_POLICY

    if policy is None and window is None:
        return {}
    return {"kind": policy or DEFAULT_POLICY, **({} if window is None else {"scale_down_window": window})}


def _bounds(processes: int | None, least: int | None, most: int | None, *, scaled: bool) -> tuple[int, int]:
    """Return the fewest and the most processes."""
    if not scaled:
        fixed = processes or 1
        return fixed, fixed
    if processes is not None:
        raise click.UsageError(f"-n {processes} is a fixed number: with a policy say --min and --max instead")
    if most is None:
        raise click.UsageError("--policy and --min need --max: how many processes may there be at most?")
    if (least or 1) > most:
        raise click.UsageError(f"--min {least} is above --max {most}")
    return least or 1, most
