"""Compares contenders in turns: A B A B, never all of A and then all of B.

Absolute figures move by a factor of two from minute to minute on a shared machine, so that only what ran side by side
is compared: each turn of a contender with the turn of the reference in the same round, and then the median is taken.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Literal

import attrs

from bench.run import Measurement
from bench.turn import Place, turn


@attrs.frozen
class Goal:
    """What a contender should reach beside the reference.

    Args:
        of: ``speed`` (messages a second; the ratio is at least ``bound``), ``time`` (per message; the ratio is at most
            ``bound``) or ``more`` (CPU microseconds per message above the reference's; at most ``bound``).
        bound: the ratio, or the microseconds.
    """

    of: Literal["speed", "time", "more"]
    bound: float

    def reached(self, standing: Standing) -> bool:
        """Tell whether a contender did well enough."""
        if self.of == "more":
            return standing.more <= self.bound
        return (
            1 / standing.time_ratio >= self.bound if self.of == "speed" else standing.time_ratio <= self.bound
        )

    def __str__(self) -> str:
        return {
            "speed": f">= {self.bound:g} x speed",
            "time": f"<= {self.bound:g} x time",
            "more": f"<= {self.bound:g} us more",
        }[self.of]


@attrs.frozen
class Contender:
    """Somebody who can do the work.

    Args:
        name: what the table calls it.
        function: ``module:name`` of a coroutine function that takes a :class:`~bench.run.Run`.
        goal: what it should reach; None for the reference and for what is only looked at.
        share: which part of the messages it works on: all are compared by the time per message, and a slow one would take
            a minute for what the others do in a second.
    """

    name: str
    function: str
    goal: Goal | None = None
    share: float = 1.0


@attrs.frozen(kw_only=True)
class Bench:
    """One kind of work, done by several.

    Args:
        name: for the command line.
        title: what is done, in a line.
        messages: how many by default.
        few: how many where only the harness is tried out.
        reference: what the others are compared with.
        contenders: the others.
        place: given how many messages, starts the broker, fills it, and says where it is.
        packages: distributions whose versions are printed.
        programs: commands whose versions are printed.
        needs: a distribution without which it is left out.
        rounds: most turns of each.
    """

    name: str
    title: str
    messages: int
    few: int = 1000
    reference: Contender
    contenders: Sequence[Contender]
    place: Place = lambda messages: nullcontext({})
    packages: Sequence[str] = ()
    programs: Sequence[str] = ()
    needs: str | None = None
    rounds: int = 1000

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
    def _pairs(self) -> Sequence[tuple[Measurement, Measurement]]:
        return list(zip(self.turns, self.beside, strict=True))

    @property
    def time_ratios(self) -> list[float]:
        """Its time per message by the reference's, round by round."""
        return [beside.rate / turn.rate for turn, beside in self._pairs]

    @property
    def time_ratio(self) -> float:
        """The median of them."""
        return statistics.median(self.time_ratios)

    @property
    def cpu_ratio(self) -> float:
        """Its CPU time by the reference's, the median: steadier than wall time while others use the machine."""
        return statistics.median(turn.cpu_micros / beside.cpu_micros for turn, beside in self._pairs)

    @property
    def more(self) -> float:
        """How many CPU microseconds a message costs above the reference's, the median."""
        return statistics.median(turn.cpu_micros - beside.cpu_micros for turn, beside in self._pairs)

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
        return None if self.contender.goal is None else self.contender.goal.reached(self)


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

    @property
    def missed(self) -> list[str]:
        """The goals that were not reached, in words."""
        return [
            f"{self.bench.name}: {standing.contender.name} is {_found(standing)}, the goal is {standing.contender.goal}"
            for standing in self.standings
            if standing.reached is False
        ]


def _found(standing: Standing) -> str:
    assert standing.contender.goal is not None
    return {
        "speed": f"{1 / standing.time_ratio:.2f} x speed",
        "time": f"{standing.time_ratio:.2f} x time",
        "more": f"{standing.more:.3f} us more",
    }[standing.contender.goal.of]


def measure(bench: Bench, *, pairs: int, messages: int | None = None) -> Result:
    """Run all contenders of a bench in turns.

    Args:
        bench: which.
        pairs: how many rounds, at most the bench's own number.
        messages: how many in each turn; the bench's own number if left out.
    """
    count = messages or bench.messages
    before = os.getloadavg()[0]
    with bench.place(count) as place:
        rounds = [
            [_timed(contender, count, place) for contender in bench.everyone]
            for _ in range(min(pairs, bench.rounds))
        ]
    columns = list(zip(*rounds, strict=True))
    standings = [
        Standing(contender, turns, columns[0])
        for contender, turns in zip(bench.everyone, columns, strict=True)
    ]
    return Result(bench, count, standings, (before, os.getloadavg()[0]))


def _timed(contender: Contender, count: int, place: Mapping[str, str]) -> Measurement:
    messages = max(int(count * contender.share), 1)
    measured = turn(contender.name, contender.function, messages, place).measured
    if measured is None:
        raise RuntimeError(f"{contender.name!r} returned without Run.stop().")
    return measured
