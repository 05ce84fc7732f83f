"""Compares policies on traces: which ones, how often, and the table of what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pythia_core import ConfigError, ScalingPolicy
from pythia_metrics.named import KINDS
from pythia_metrics.policies import RHO
from pythia_metrics.simulator import Report, World, simulate
from pythia_metrics.traces import TRACES, Trace, load, make
from pythia_metrics.twins import Fixed, Hpa

__all__ = ["COMPARED", "cheapest", "compare", "contenders", "table"]

COMPARED = ("drain", "lag", "latency", "busy", "cpu")
COMMIT_SECONDS = 2.5
DEARER = 1.1  # times the worker-hours of the cheapest without a miss, up to which a policy is not called dear


def contenders(
    names: Sequence[str], trace: Trace, world: World, options: Mapping[str, Any]
) -> dict[str, ScalingPolicy]:
    """Return the policies to try on a trace: those named, or all, a twin of the pod autoscaler and fixed numbers."""
    mean = sum(trace.arrivals) / len(trace.arrivals)
    peak = max(sum(trace.arrivals[at : at + 60]) / 60 for at in range(0, len(trace.arrivals), 60))
    fixed = {"static-mean": Fixed(_processes(mean, world)), "static-peak": Fixed(_processes(peak, world))}
    everything: dict[str, ScalingPolicy] = {
        **{name: KINDS[name](**options) for name in COMPARED},
        "hpa": Hpa(world.rate * COMMIT_SECONDS * RHO),
        **fixed,
    }
    unknown = [name for name in names if name not in everything]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} cannot be simulated; there are {', '.join(everything)}")
    return {name: policy for name, policy in everything.items() if not names or name in names}


def _processes(rate: float, world: World) -> int:
    return max(world.least, min(world.most, -int(-rate // (world.rate * RHO))))


def compare(
    traces: Sequence[str],
    policies: Sequence[str],
    world: World,
    *,
    seconds: int,
    seeds: int,
    options: Mapping[str, Any],
) -> list[Report]:
    """Return the reports of all policies on all traces, each the mean of several seeds."""
    reports = []
    for name in traces or TRACES:
        versions = [_trace(name, seed, seconds, world) for seed in range(seeds if name in TRACES else 1)]
        for policy in contenders(policies, versions[0], world, options):
            runs = [
                simulate(trace, contenders([policy], trace, world, options)[policy], policy, world)
                for trace in versions
            ]
            reports.append(_mean(runs))
    return reports


def _trace(name: str, seed: int, seconds: int, world: World) -> Trace:
    if name in TRACES:
        return make(name, seed=seed, seconds=seconds, unit=world.rate * RHO)
    if not Path(name).is_file():
        raise ConfigError(f"{name!r} is neither a trace nor a file; there are {', '.join(TRACES)}")
    return load(Path(name))


def _mean(runs: Sequence[Report]) -> Report:
    def mean(name: str) -> float:
        return sum(float(getattr(run, name)) for run in runs) / len(runs)

    return attrs.evolve(
        runs[0],
        misses=mean("misses"),
        p50=mean("p50"),
        p99=mean("p99"),
        worker_hours=mean("worker_hours"),
        at_max=mean("at_max"),
        over_provision=mean("over_provision"),
        oldest=max(run.oldest for run in runs),
        changes=round(mean("changes")),
        reversals=round(mean("reversals")),
        infeasible=any(run.infeasible for run in runs),
    )


def table(rows: Sequence[Report]) -> list[str]:
    """Return the table, a block for each trace; the best without misses that costs least is marked."""
    head = f"{'policy':<14}{'misses':>9}{'p50':>7}{'p99':>7}{'oldest':>8}{'hours':>8}{'changes':>9}{'reversals':>11}{'x needed':>10}"
    lines: list[str] = []
    for trace in dict.fromkeys(row.trace for row in rows):
        block = [row for row in rows if row.trace == trace]
        best = cheapest(block)
        note = (
            "  (no number of processes that is allowed would have done)"
            if any(r.infeasible for r in block)
            else ""
        )
        lines += ["", f"{trace}{note}", head]
        lines += [_line(row, row is best) for row in block]
        lines += _why_not_drain(block, best)
    return lines[1:]


def _why_not_drain(block: Sequence[Report], best: Report | None) -> list[str]:
    """Say why the default policy is not the one to take here, where it is not."""
    drain = next((row for row in block if row.policy == "drain"), None)
    if drain is None or best is None or drain is best:
        return []
    if round(drain.misses, 4) > round(best.misses, 4):
        return [
            f"drain misses more than {best.policy}: it starts processes by what it has measured, and that was late"
        ]
    times = drain.worker_hours / best.worker_hours
    if times <= DEARER:
        return []
    text = f"drain costs {times:.1f} times as much as {best.policy}"
    if best.p99 > drain.p99:
        text += (
            f", which lets messages grow older (99 of 100 within {best.p99:.0f} s, not {drain.p99:.0f} s) and"
        )
    else:
        text += ": it wants what is left done within a minute, which that one does not look at, and that one"
    return [f"{text} changes {best.changes} times, not {drain.changes}"]


def cheapest(rows: Sequence[Report]) -> Report | None:
    """Return the one with the fewest misses that costs least, fixed numbers left out: nobody knows them before."""
    live = [row for row in rows if not row.policy.startswith("static")]
    return min(live, key=lambda row: (round(row.misses, 4), row.worker_hours), default=None)


def _line(row: Report, best: bool) -> str:
    return (
        f"{row.policy:<14}{row.misses:>9.2%}{row.p50:>7.0f}{row.p99:>7.0f}{row.oldest:>8.0f}"
        f"{row.worker_hours:>8.2f}{row.changes:>9}{row.reversals:>11}{row.over_provision:>10.2f}{'  <' if best else ''}"
    )
