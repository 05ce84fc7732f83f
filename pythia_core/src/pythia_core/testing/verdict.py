"""What a load test found out: figures, and proof of what was lost, done twice or out of order, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from pythia_core.testing.recording import Attempt

__all__ = ["LoadResults", "judge", "nearest_rank"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@attrs.frozen(kw_only=True)
class LoadResults:
    """The figures of one load test.

    Args:
        messages: how many were to be sent.
        sent: how many of them the broker confirmed; only these are owed.
        done: how many of those were processed, each counted once.
        failed: how many were attempted and never processed: what is dead or still being retried.
        lost: how many were confirmed by the broker and never attempted.
        duplicates: how often a message was processed again.
        attempts: calls of the handler, counted for each message of a batch.
        errors: how many of those raised.
        order_violations: how often a message began before the one before it of its key had been processed; None where
            the broker or the configuration promises no order.
        seconds: from when the first message was to be sent until the last was processed.
        latencies: seconds from when each message was to be sent until it was processed, in ascending order. Waiting to be
            sent counts, so that a system that falls behind shows it (open-loop arrivals).
        by_worker: how many attempts each process made.
        timeline: of each message that was processed the seconds from the start until it was to be sent, and its latency.
    """

    messages: int
    sent: int
    done: int
    failed: int
    lost: int
    duplicates: int
    attempts: int
    errors: int
    order_violations: int | None
    seconds: float
    latencies: Sequence[float] = attrs.field(repr=False)
    by_worker: Sequence[int]
    timeline: Sequence[tuple[float, float]] = attrs.field(default=(), repr=False)

    @property
    def avg_throughput(self) -> float:
        """Messages processed in a second; 0 if there were none."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def avg_latency(self) -> float:
        """Seconds on average from when a message was to be sent until it was processed; infinite if none was."""
        return sum(self.latencies) / len(self.latencies) if self.latencies else math.inf

    @property
    def error_rate(self) -> float:
        """Share of the attempts that failed, and 1 if there was none."""
        return self.errors / self.attempts if self.attempts else 1.0

    def latency(self, percentile: float) -> float:
        """Return the seconds within which so many of a hundred were processed, by nearest rank; infinite if none was."""
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile is {percentile!r}; it must be above 0 and at most 100")
        return nearest_rank(self.latencies, percentile) if self.latencies else math.inf

    @property
    def percentiles(self) -> dict[float, float]:
        """The latencies of 50, 90, 99 and 99.9 of a hundred, in seconds."""
        return {percentile: self.latency(percentile) for percentile in PERCENTILES}

    @property
    def proven(self) -> bool:
        """True if every message that was confirmed was processed, once, and in order where there is one."""
        return self.done == self.sent and not self.duplicates and not self.order_violations

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it; what is infinite is None."""
        figures = attrs.asdict(self, filter=lambda field, _: field.name not in ("latencies", "timeline"))
        figures |= {name: getattr(self, name) for name in ("avg_throughput", "avg_latency", "error_rate")}
        figures["percentiles"] = {f"{name:g}": value for name, value in self.percentiles.items()}
        figures["proven"] = self.proven
        return {name: _finite(value) for name, value in figures.items()}


def nearest_rank(ascending: Sequence[float], percentile: float) -> float:
    """Return the least of these within which so many of a hundred are."""
    return ascending[math.ceil(percentile / 100 * len(ascending)) - 1]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and math.isinf(value) else value


def judge(
    began: float,
    messages: int,
    sent: Collection[int],
    by_worker: Sequence[Sequence[Attempt]],
    *,
    keys: int | None,
    earlier: Sequence[Sequence[Attempt]] = (),
) -> LoadResults:
    """Return what the attempts of all processes come to.

    Args:
        began: when the first message was to be sent, in monotonic seconds.
        messages: how many were to be sent.
        sent: the numbers of those that the broker confirmed.
        by_worker: the attempts of each process.
        keys: message ``n`` has the key ``n % keys``; None where no order is promised.
        earlier: the attempts of each process of earlier stages, whose failures count too.
    """
    attempts = [attempt for made in by_worker for attempt in made]
    good = [attempt for attempt in attempts if attempt.good]
    first_good: dict[int, Attempt] = {}
    for attempt in sorted(good, key=lambda attempt: attempt.ended):
        first_good.setdefault(attempt.number, attempt)
    owed = frozenset(sent)
    attempted = {attempt.number for attempt in attempts}
    done = first_good.keys() & owed
    timeline = [
        (found.intended - began, found.ended - found.intended) for found in map(first_good.__getitem__, done)
    ]
    last = max((attempt.ended for attempt in first_good.values()), default=began)
    return LoadResults(
        messages=messages,
        sent=len(owed),
        done=len(done),
        failed=len((owed & attempted) - done),
        lost=len(owed - attempted),
        duplicates=len(good) - len(first_good),
        attempts=len(attempts) + sum(map(len, earlier)),
        errors=len(attempts) - len(good) + sum(not attempt.good for made in earlier for attempt in made),
        order_violations=None if keys is None else _violations(attempts, first_good, keys),
        seconds=last - began,
        latencies=sorted(latency for _, latency in timeline),
        by_worker=tuple(map(len, (*earlier, *by_worker))),
        timeline=timeline,
    )


def _violations(attempts: Iterable[Attempt], first_good: Mapping[int, Attempt], keys: int) -> int:
    """Count messages that began before the last one of their key was processed, or given up."""
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    for attempt in attempts:
        begun[attempt.number] = min(attempt.started, begun.get(attempt.number, math.inf))
        ended[attempt.number] = max(attempt.ended, ended.get(attempt.number, -math.inf))
    ended |= {number: attempt.ended for number, attempt in first_good.items()}
    before: dict[int, float] = {}
    violations = 0
    for number in sorted(begun):
        violations += begun[number] < before.get(number % keys, -math.inf)
        before[number % keys] = ended[number]
    return violations
