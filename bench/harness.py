"""Runs the contenders of a bench in turns and compares them: A B A B, never all of A and then all of B.

Absolute figures move by a factor of two from minute to minute on a shared machine, so that only what ran side by side
is compared: each turn of a contender with the turn of the reference in the same round, and then the median is taken.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import attrs

from bench.run import Measurement
from tests.servers import die_with_parent

ROOT = Path(__file__).parents[1]
LONGEST = 60.0  # seconds that one turn may take; a good one takes a few

Place = Callable[[int], AbstractContextManager[Mapping[str, str]]]


@attrs.frozen
class Goal:
    """What a contender should reach, as a ratio to the reference.

    Args:
        of: ``speed`` (messages a second; the goal is at least ``bound``) or ``time`` (per message; at most).
        bound: the ratio.
    """

    of: Literal["speed", "time"]
    bound: float

    def reached(self, time_ratio: float) -> bool:
        """Tell whether a contender that takes ``time_ratio`` times the reference's time is good enough."""
        return 1 / time_ratio >= self.bound if self.of == "speed" else time_ratio <= self.bound

    def __str__(self) -> str:
        return f">= {self.bound:g} x speed" if self.of == "speed" else f"<= {self.bound:g} x time"


@attrs.frozen
class Contender:
    """Somebody who can do the work.

    Args:
        name: what the table calls it.
        function: ``module:name`` of a coroutine function that takes a :class:`~bench.run.Run`.
        goal: what it should reach; None for the reference and for what is only looked at.
    """

    name: str
    function: str
    goal: Goal | None = None


@attrs.frozen(kw_only=True)
class Bench:
    """One kind of work, done by several.

    Args:
        name: for the command line.
        title: what is done, in a line.
        messages: how many by default.
        reference: what the others are compared with.
        contenders: the others.
        place: given how many messages, starts the broker, fills it, and says where it is.
        packages: distributions whose versions are printed.
    """

    name: str
    title: str
    messages: int
    reference: Contender
    contenders: Sequence[Contender]
    place: Place = lambda messages: nullcontext({})
    packages: Sequence[str] = ()

    @property
    def everyone(self) -> Sequence[Contender]:
        """Reference and contenders, in the order of their turns."""
        return (self.reference, *self.contenders)


@attrs.frozen
class Standing:
    """How a contender did: its own turns, and those of the reference beside them."""

    contender: Contender
    turns: Sequence[Measurement]
    beside: Sequence[Measurement]

    @property
    def time_ratios(self) -> list[float]:
        """Its time by the reference's, round by round."""
        pairs = zip(self.turns, self.beside, strict=True)
        return [turn.seconds / beside.seconds for turn, beside in pairs]

    @property
    def time_ratio(self) -> float:
        """The median of them."""
        return statistics.median(self.time_ratios)

    @property
    def cpu_ratio(self) -> float:
        """Its CPU time by the reference's, the median: steadier than wall time while others use the machine."""
        pairs = zip(self.turns, self.beside, strict=True)
        return statistics.median(turn.cpu_seconds / beside.cpu_seconds for turn, beside in pairs)

    @property
    def rate(self) -> float:
        """Messages per second, the median."""
        return statistics.median(turn.rate for turn in self.turns)

    @property
    def cpu_micros(self) -> float:
        """CPU microseconds per message, the median."""
        return statistics.median(turn.cpu_micros for turn in self.turns)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None if there is none."""
        return None if self.contender.goal is None else self.contender.goal.reached(self.time_ratio)


@attrs.frozen
class Result:
    """A bench that was run.

    Args:
        bench: which.
        messages: how many in each turn.
        standings: the reference's first.
        load: the machine's load average (1 minute) before and after.
    """

    bench: Bench
    messages: int
    standings: Sequence[Standing]
    load: tuple[float, float]


def measure(bench: Bench, *, pairs: int, messages: int | None = None) -> Result:
    """Run all contenders of a bench in turns.

    Args:
        bench: which.
        pairs: how many rounds.
        messages: how many in each turn; the bench's own number if left out.
    """
    count = messages or bench.messages
    before = os.getloadavg()[0]
    with bench.place(count) as place:
        rounds = [[turn(contender, count, place) for contender in bench.everyone] for _ in range(pairs)]
    columns = list(zip(*rounds, strict=True))
    standings = [
        Standing(contender, turns, columns[0])
        for contender, turns in zip(bench.everyone, columns, strict=True)
    ]
    return Result(bench, count, standings, (before, os.getloadavg()[0]))


def turn(contender: Contender, messages: int, place: Mapping[str, str]) -> Measurement:
    """Run one contender once, in a process of its own, which never outlives this one."""
    shim = [sys.executable, "-IS", die_with_parent.__file__, str(os.getpid())]
    order = json.dumps({"contender": contender.function, "messages": messages, "place": dict(place)})
    child = subprocess.run(
        [*shim, sys.executable, "-m", "bench.child", order],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LONGEST,
    )
    if child.returncode:
        raise RuntimeError(
            f"{contender.name!r} ended with exit code {child.returncode}; its output is above."
        )
    return Measurement(**json.loads(child.stdout))


def missed(results: Iterable[Result]) -> list[Standing]:
    """Return those who did not reach their goal."""
    return [standing for result in results for standing in result.standings if standing.reached is False]
