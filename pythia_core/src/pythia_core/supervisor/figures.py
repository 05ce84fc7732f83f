"""Adds up what the children count, the dead included, so that N processes have one set of figures."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Figures", "Row", "Totals"]

WINDOW = 5.0
"""Seconds over which a rate is the mean: reports come each second, and a shorter mean would flicker."""

GAUGES = frozenset({"in_flight", "in_flight_bytes"})
"""What a dead child has no more of."""

LOST = frozenset({"released", "dead_lettered"})
"""Finished without having been done."""


@attrs.frozen(kw_only=True)
class Totals:
    """What one child or all of them have done so far; ``rate`` is messages done a second, ``rss`` bytes."""

    done: int = 0
    in_flight: int = 0
    retried: int = 0
    dead_lettered: int = 0
    failures: int = 0
    rate: float = 0.0
    rss: int = 0


@attrs.frozen(kw_only=True)
class Row:
    """A living child for people to look at.

    Args:
        number, slot, pid, state: which it is, and what it does.
        reasons: what holds it up, and which messages, one short sentence each.
        totals: what it has done.
        busy: the used share of its slots, 0 to 1.
    """

    number: int
    slot: int
    pid: int
    state: str
    reasons: tuple[str, ...]
    totals: Totals
    busy: float = 0.0


@attrs.define(eq=False)
class _History:
    """Counters of one child, and how many messages it had done when."""

    counters: Counter[str] = attrs.field(factory=Counter)
    rss: int = 0
    done: deque[tuple[float, int]] = attrs.field(factory=deque)

    def totals(self, now: float) -> Totals:
        return _totals(self.counters, self.rate(now), self.rss)

    def rate(self, now: float) -> float:
        """Return messages a second over the last reports; none if these are long ago."""
        if len(self.done) < 2 or now - self.done[-1][0] > WINDOW:
            return 0.0
        (since, before), (until, after) = self.done[0], self.done[-1]
        return (after - before) / (until - since) if until > since else 0.0


@attrs.define(eq=False)
class Figures:
    """The figures of all children.

    Invariant: no total that counts ever falls, whoever dies.
    """

    _living: dict[int, _History] = attrs.field(factory=dict)
    _gone: Counter[str] = attrs.field(factory=Counter)

    def take(self, number: int, report: Mapping[str, Any], now: float) -> None:
        """Take a child's report."""
        history = self._living.setdefault(number, _History())
        history.counters = Counter(report.get("counters", {}))
        history.rss = report.get("rss", 0)
        history.done.append((now, _done(history.counters)))
        while now - history.done[0][0] > WINDOW:
            history.done.popleft()

    def forget(self, number: int) -> None:
        """Keep a dead child's last values in the sum."""
        if (history := self._living.pop(number, None)) is not None:
            self._gone.update({name: n for name, n in history.counters.items() if name not in GAUGES})

    def of(self, number: int, now: float) -> Totals:
        """Return one living child's figures."""
        history = self._living.get(number)
        return history.totals(now) if history else Totals()

    def all(self, now: float) -> Totals:
        """Return the sum."""
        counters = Counter(self._gone)
        for history in self._living.values():
            counters.update(history.counters)
        rates = sum(history.rate(now) for history in self._living.values())
        return _totals(counters, rates, sum(history.rss for history in self._living.values()))


def _done(counters: Mapping[str, int]) -> int:
    return counters.get("finished", 0) - sum(counters.get(name, 0) for name in LOST)


def _totals(counters: Mapping[str, int], rate: float, rss: int) -> Totals:
    return Totals(
        done=_done(counters),
        in_flight=counters.get("in_flight", 0),
        retried=counters.get("retried", 0),
        dead_lettered=counters.get("dead_lettered", 0),
        failures=counters.get("failures", 0),
        rate=rate,
        rss=rss,
    )
