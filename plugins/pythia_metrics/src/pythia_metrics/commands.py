"""``pythia health``, ``pythia scaling``, ``pythia alerts`` and ``pythia grafana``: ask a monitor, try policies, print files."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
import click

from pythia_metrics.asking import ask, default_url
from pythia_metrics.scaling_commands import scaledobject, serve

__all__ = ["alerts", "grafana", "health", "scaling"]

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


@click.command()
def alerts() -> None:
    """Print alerting rules for Prometheus, to be named in its rule_files."""
    click.echo((files("pythia_metrics") / "rules" / "pythia.yml").read_text(), nl=False)


@click.command()
def grafana() -> None:
    """Print a dashboard for Grafana as JSON, to be imported there; it asks a Prometheus that scrapes /metrics."""
    click.echo((files("pythia_metrics") / "rules" / "grafana.json").read_text(), nl=False)


@click.group()
def scaling() -> None:
    """Explain what a scaling policy did, try policies on a trace, or serve one to Kubernetes."""


scaling.add_command(serve)
scaling.add_command(scaledobject)


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


@scaling.command()
@click.argument("traces", nargs=-1, metavar="[TRACE|FILE]...")
@click.option("--policy", "policies", multiple=True, help="A policy to try; repeatable. [default: all]")
@click.option("--rate", default=10.0, show_default=True, help="Messages a second that one process can do.")
@click.option("--start", default=5.0, show_default=True, help="Seconds until a new process is ready.")
@click.option("--rebalance", default=0.0, show_default=True, help="Seconds for which a change stops all.")
@click.option("--min", "least", default=1, show_default=True, help="The fewest processes.")
@click.option("--max", "most", default=8, show_default=True, help="The most processes.")
@click.option("--slo", default=60.0, show_default=True, help="Seconds that a message may be old.")
@click.option("--seconds", default=7200, show_default=True, help="How long the shipped traces are.")
@click.option("--seeds", default=3, show_default=True, help="How many versions of each shipped trace.")
@click.option("--scale-down-window", default=300.0, show_default=True, help="The governor's, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option(
    "--plots",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a page with a picture of each trace to this file too.",
)
def simulate(
    traces: tuple[str, ...],
    policies: tuple[str, ...],
    seconds: int,
    seeds: int,
    scale_down_window: float,
    as_json: bool,
    plots: Path | None,
    **world: Any,
) -> None:
    """Try policies on loads, by the very code that decides: shipped traces, CSV files, or Prometheus range queries.

    TRACE is one of step, ramp, sine, bursts, flash, batch, idle, flat, hot-partition, poison, slow-downstream; without
    any, all.
    """
    from pythia_metrics.comparing import cheapest, compare, table
    from pythia_metrics.simulator import World

    rows = compare(
        traces,
        policies,
        World(**world),
        seconds=seconds,
        seeds=seeds,
        options={"scale_down_window": scale_down_window},
    )
    if plots is not None:
        from pythia_metrics.plots import page

        plots.write_text(page(rows, world["slo"], cheapest), encoding="utf-8")
    if as_json:
        click.echo(json.dumps([attrs.asdict(row) for row in rows]))
        return
    for line in table(rows):
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
