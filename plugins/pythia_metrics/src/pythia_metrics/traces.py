"""Loads to try policies on: messages a second over time, made of a seed, or read from a file."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs

from pythia_core import ConfigError

__all__ = ["TRACES", "Trace", "load", "make"]


@attrs.frozen(kw_only=True)
class Trace:
    """One load.

    Args:
        name: for the report.
        arrivals: messages in each second.
        partitions: how many processes can own something at most, or None.
        hot: the share of all messages that one partition gets, which one process must do alone.
        stuck: the share of the messages that lie behind one that does not end, from a quarter of the time on: late whatever is done, so they are no misses.
        knee: the number of processes from which on what they share is the limit, or None.
    """

    name: str
    arrivals: Sequence[float]
    partitions: int | None = None
    hot: float = 0.0
    stuck: float = 0.0
    knee: int | None = None


Shape = Callable[[random.Random, int, float], Sequence[float]]
"""Makes arrivals of a seeded random, seconds, and the rate that is the trace's 1."""


def _noise(chance: random.Random, rate: float) -> float:
    """Return what comes in one second at a rate: a normal that stands in for Poisson's."""
    return max(0.0, chance.gauss(rate, math.sqrt(max(rate, 0.0))))


def _step(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    return [_noise(chance, unit * (4 if seconds / 4 <= t < seconds * 3 / 4 else 1)) for t in range(seconds)]


def _ramp(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    return [_noise(chance, unit * (1 + 5 * min(t, seconds - t) * 2 / seconds)) for t in range(seconds)]


def _sine(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    return [_noise(chance, unit * (3 + 2 * math.sin(4 * math.pi * t / seconds))) for t in range(seconds)]


def _bursts(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    """Return a load that is on or off for a random time: a Markov-modulated Poisson process of two states."""
    on, arrivals = False, []
    for _ in range(seconds):
        on = on != (chance.random() < 1 / (120 if on else 300))
        arrivals.append(_noise(chance, unit * (5 if on else 0.5)))
    return arrivals


def _flash(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    """Return ten times as much within a minute, which decays."""
    begin = seconds // 3
    rates = [
        1 + 9 * (min(1.0, (t - begin) / 60) if t < begin + 60 else math.exp(-(t - begin - 60) / 600))
        if t >= begin
        else 1.0
        for t in range(seconds)
    ]
    return [_noise(chance, unit * rate * 0.7) for rate in rates]


def _batch(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    """Return a pile at one moment and little else."""
    return [_noise(chance, unit * 0.3) + (unit * 600 if t == seconds // 3 else 0) for t in range(seconds)]


def _idle(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    return [1.0 if t == seconds // 2 else 0.0 for t in range(seconds)]


def _flat(chance: random.Random, seconds: int, unit: float) -> Sequence[float]:
    return [_noise(chance, unit * 2.5) for _ in range(seconds)]


TRACES: Final[Mapping[str, tuple[Shape, Mapping[str, float]]]] = {
    "step": (_step, {}),
    "ramp": (_ramp, {}),
    "sine": (_sine, {}),
    "bursts": (_bursts, {}),
    "flash": (_flash, {}),
    "batch": (_batch, {}),
    "idle": (_idle, {}),
    "flat": (_flat, {}),
    "hot-partition": (_sine, {"partitions": 12, "hot": 0.3}),
    "poison": (_flat, {"partitions": 12, "stuck": 1 / 12}),
    "slow-downstream": (_step, {"knee": 3}),
}
"""The traces that come along, with what is special about each."""


def make(name: str, *, seed: int, seconds: int, unit: float) -> Trace:
    """Return one of the traces that come along; ``unit`` is the rate of one process times 0.7, more or less."""
    shape, more = TRACES[name]
    return Trace(
        name=name,
        arrivals=shape(random.Random(f"{name} {seed}"), seconds, unit),
        partitions=int(more["partitions"]) if "partitions" in more else None,
        hot=more.get("hot", 0.0),
        stuck=more.get("stuck", 0.0),
        knee=int(more["knee"]) if "knee" in more else None,
    )


def load(path: Path) -> Trace:
    """Read a trace: CSV with seconds and messages a second, or the JSON of a Prometheus range query.

    Raises:
        ConfigError: if the file holds no such thing.
    """
    text = path.read_text()
    try:
        points = _prometheus(text) if text.lstrip().startswith("{") else _csv(text)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"{path} is no trace: {type(error).__name__}: {error}") from None
    if len(points) < 2 or any(later[0] <= sooner[0] for sooner, later in pairwise(points)):
        raise ConfigError(f"{path} is no trace: it needs two times or more, each later than the one before")
    return Trace(name=path.stem, arrivals=_each_second(points))


def _prometheus(text: str) -> list[tuple[float, float]]:
    (series,) = json.loads(text)["data"]["result"]
    return [(float(at), float(value)) for at, value in series["values"]]


def _csv(text: str) -> list[tuple[float, float]]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if not rows[0][0].replace(".", "").isdigit():
        rows = rows[1:]
    return [(float(row[0]), float(row[1])) for row in rows]


def _each_second(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return a rate for each second: the last one that was said by then."""
    begin, end = points[0][0], points[-1][0]
    arrivals, position = [], 0
    for second in range(int(end - begin) + 1):
        while position + 1 < len(points) and points[position + 1][0] <= begin + second:
            position += 1
        arrivals.append(max(0.0, points[position][1]))
    return arrivals
