"""Measures what is no race: latencies, sizes, and whether a cost stays flat as something grows.

A subject runs in a process of its own and names its figures; here they are held against their bounds. Several rounds are
run and the median is taken, as in a race.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from contextlib import nullcontext

import attrs

from bench.turn import Place, turn


@attrs.frozen
class Figure:
    """A number that a subject measures.

    Args:
        name: by which the subject gives it.
        unit: of it.
        most: the goal: no more than that.
        least: the goal: no less than that.
        beside: the name of another figure of the same subject, to which its ratio is shown.
        most_ratio: the goal: no more than so many times that figure.
    """

    name: str
    unit: str
    most: float | None = None
    least: float | None = None
    beside: str | None = None
    most_ratio: float | None = None

    @property
    def goal(self) -> str:
        """The goal in words; empty if it is only looked at."""
        if self.most is not None:
            return f"<= {self.most:g} {self.unit}"
        if self.least is not None:
            return f">= {self.least:g} {self.unit}"
        return f"<= {self.most_ratio:g} x {self.beside}" if self.most_ratio is not None else ""


@attrs.frozen
class Subject:
    """What is measured.

    Args:
        name: what the table calls it.
        function: ``module:name`` of a coroutine function that takes a :class:`~bench.run.Run` and fills its figures.
        figures: what it measures.
    """

    name: str
    function: str
    figures: Sequence[Figure]


@attrs.frozen(kw_only=True)
class Probe:
    """Subjects that are measured in turns; its arguments are those of :class:`~bench.harness.Bench`."""

    name: str
    title: str
    messages: int
    few: int
    subjects: Sequence[Subject]
    place: Place = lambda messages: nullcontext({})
    packages: Sequence[str] = ()
    programs: Sequence[str] = ()
    needs: str | None = None
    rounds: int = 3


@attrs.frozen
class Found:
    """One figure in all rounds, and that beside it."""

    subject: Subject
    figure: Figure
    values: Sequence[float]
    beside: Sequence[float] = ()

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """The median of its ratios to the figure beside it, if there is one."""
        pairs = zip(self.values, self.beside, strict=True)
        return statistics.median(own / other for own, other in pairs) if self.beside else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None if there is none."""
        figure = self.figure
        if figure.most is not None:
            return self.value <= figure.most
        if figure.least is not None:
            return self.value >= figure.least
        if figure.most_ratio is None or self.ratio is None:
            return None
        return self.ratio <= figure.most_ratio


@attrs.frozen
class Findings:
    """A probe that was run; see :class:`~bench.harness.Result`."""

    probe: Probe
    messages: int
    found: Sequence[Found]
    load: tuple[float, float]

    @property
    def missed(self) -> list[str]:
        """The goals that were not reached, in words."""
        return [
            f"{self.probe.name}: {found.subject.name}, {found.figure.name} is {_text(found)}, "
            f"the goal is {found.figure.goal}"
            for found in self.found
            if found.reached is False
        ]


def _text(found: Found) -> str:
    return f"{found.value:.4g} {found.figure.unit}" + (f" ({found.ratio:.2f} x)" if found.ratio else "")


def examine(probe: Probe, *, pairs: int, messages: int | None = None) -> Findings:
    """Run all subjects of a probe in turns; arguments are those of :func:`~bench.harness.measure`."""
    count = messages or probe.messages
    before = os.getloadavg()[0]
    with probe.place(count) as place:
        rounds = [
            [turn(subject.name, subject.function, count, place).figures for subject in probe.subjects]
            for _ in range(min(pairs, probe.rounds))
        ]
    found = []
    for subject, turns in zip(probe.subjects, zip(*rounds, strict=True), strict=True):
        for figure in subject.figures:
            values = [figures[figure.name] for figures in turns]
            beside = [figures[figure.beside] for figures in turns] if figure.beside else ()
            found.append(Found(subject, figure, values, beside))
    return Findings(probe, count, found, (before, os.getloadavg()[0]))
