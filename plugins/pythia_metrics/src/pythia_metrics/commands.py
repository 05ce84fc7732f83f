"""``pythia health`` and ``pythia scaling``: ask a running monitor, and try policies on traces."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from pythia_metrics.asking import ask, default_url

__all__ = ["health", "scaling"]

address = click.option("--url", help="Where the monitor listens. [default: PYTHIA_LISTEN, or port 9464 here]")


@click.command()
@click.argument("probe", default="readyz", type=click.Choice(["livez", "readyz", "startupz"]))
@address
@click.option("--timeout", default=2.0, show_default=True, help="Seconds to wait for the answer.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: the exit code says it.")
def health(probe: str, url: str | None, timeout: float, quiet: bool) -> None:
    """Ask whether a worker is well; exit 1 if it is not, or does not answer."""
    try:
        status, text = ask(url or default_url(), f"/{probe}?verbose", timeout)
    except OSError as error:
        status, text = 0, f"nobody answers at {url or default_url()}: {error}\n"
    if not quiet:
        click.echo(text, nl=False)
    raise SystemExit(0 if status == 200 else 1)


@click.group()
def scaling() -> None:
    """Explain what a scaling policy did, or try policies on a trace."""


@scaling.command()
@address
@click.option("-n", "--number", default=10, show_default=True, help="How many decisions, the last ones.")
@click.option("--all", "everything", is_flag=True, help="Show also decisions that changed nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what the monitor said.")
def explain(url: str | None, number: int, everything: bool, as_json: bool) -> None:
    """Say why there are as many processes as there are."""
    try:
        status, text = ask(url or default_url(), "/scaling", 5.0)
    except OSError as error:
        raise click.ClickException(f"nobody answers at {url or default_url()}: {error}") from None
    if status != 200:
        raise click.ClickException(f"{url or default_url()} answers {status}")
    if as_json:
        click.echo(text)
        return
    for line in explanation(json.loads(text), number, everything):
        click.echo(line)


def explanation(said: dict[str, Any], number: int, everything: bool) -> list[str]:
    """Return lines that explain the last decisions."""
    if said.get("policy") is None:
        return ["no policy decides here: see pythia run --policy"]
    bounds = f"{said['min']} to {said['max']}"
    lines = [
        f"{said['worker']}: {said['policy']} keeps {said['desired']} ({bounds}), {said['ready']} ready",
        f"one process does {_number(said['true_rate'])} messages a second at its limit, as measured",
    ]
    decisions = said["decisions"]
    shown = [d for d in decisions if everything or d["before"] != d["after"]][-number:]
    if decisions and decisions[-1] not in shown:
        shown.append(decisions[-1])
    lines += [line for decision in shown for line in _decision(decision)]
    threshold = decisions[-1]["inputs"].get("lag_threshold") if decisions else None
    if threshold:
        lines.append(f"the same as a KEDA lagThreshold of {threshold:.0f}")
    return lines


def _decision(decision: dict[str, Any]) -> list[str]:
    at = datetime.fromtimestamp(decision["wall"]).strftime("%H:%M:%S")
    before, after = decision["before"], decision["after"]
    what = f"{before} -> {after}" if before != after else f"{after} stay"
    inputs = ", ".join(f"{name} {_number(value)}" for name, value in sorted(decision["inputs"].items()))
    unknown = "" if decision["confidence"] == "ok" else f" ({decision['confidence']})"
    queues = "; ".join(
        f"{queue['destination']}: {_number(queue['backlog'])} left, oldest {_number(queue['oldest_age_s'])} s"
        for queue in decision["observed"]["queues"]
    )
    return [f"{at}  {what}: {decision['reason']}{unknown}", f"          {inputs or 'no inputs'}; {queues}"]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
