"""Adds up the families of N processes, the dead included, so that one endpoint tells the truth about all of them.

Invariants, each with a test:

- M1. What only grows never falls: counters, histograms and summaries are sums over all processes that ever reported, with
  the last values of those that have died.
- M2. A gauge is a living process's: it carries ``process=<slot>``, never a pid, or is what its ``multiprocess_mode``
  makes of all of them; it is gone when its process is.
- M3. Families of one name that do not fit together (another type, other buckets) are left out and counted, not mixed.
- M4. At most ``most`` samples are kept of one process and ten times as many in all; the rest is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from pythia_metrics.families import SUMMED, Family, Labels

__all__ = ["Merger"]

MOST = 2_000
"""Samples of one process. A worker of ours has about 60; a user's own with a label for each customer has too many."""

TIMES = 10

Combine = Callable[[list[float]], float]
COMBINED: dict[str, Combine] = {"min": min, "max": max, "sum": sum}


@attrs.define(eq=False)
class _Process:
    slot: int
    families: dict[str, Family] = attrs.field(factory=dict)
    order: int = 0  # of its last report among all


@attrs.define(eq=False)
class Merger:
    """The families of all processes.

    Args:
        most: samples that are kept of one process.
    """

    most: int = MOST
    dropped: int = 0
    _living: dict[int, _Process] = attrs.field(factory=dict)
    _gone: dict[str, Family] = attrs.field(factory=dict)
    _forms: dict[str, object] = attrs.field(factory=dict)  # what the first of a name looked like
    _order: int = 0

    def take(self, number: int, slot: int, families: Iterable[Family]) -> None:
        """Take what a process says now, which replaces what it said before."""
        self._order += 1
        process = _Process(slot, order=self._order)
        left = self.most
        for family in families:
            if not self._fits(family) or len(family.samples) > left:
                self.dropped += len(family.samples)
                continue
            left -= len(family.samples)
            process.families[family.name] = family
        before = self._living.get(number)
        if before is not None:
            for name, family in before.families.items():
                if family.kind in SUMMED:  # a family that is no longer said is not undone
                    process.families.setdefault(name, family)
        self._living[number] = process

    def forget(self, number: int) -> None:
        """Keep what a dead process had counted, and nothing that it only had."""
        process = self._living.pop(number, None)
        if process is None:
            return
        for family in process.families.values():
            if family.kind in SUMMED:
                self._keep(family)

    def _keep(self, family: Family) -> None:
        kept = self._gone.setdefault(family.name, Family(family.name, family.kind, family.help))
        for key, value in family.samples.items():
            if key not in kept.samples and self._total_gone() >= TIMES * self.most:
                self.dropped += 1
                continue
            kept.samples[key] = kept.samples.get(key, 0.0) + value

    def _total_gone(self) -> int:
        return sum(len(family.samples) for family in self._gone.values())

    def _fits(self, family: Family) -> bool:
        form = _form(family)
        return self._forms.setdefault(family.name, form) == form or not family.samples

    def families(self) -> list[Family]:
        """Return all of it as one."""
        together: dict[str, Family] = {}
        for family in self._gone.values():
            together[family.name] = attrs.evolve(family, samples=dict(family.samples))
        gauges: dict[str, list[tuple[_Process, Family]]] = {}
        for process in self._living.values():
            for family in process.families.values():
                if family.kind in SUMMED:
                    _sum_into(together, family)
                else:
                    gauges.setdefault(family.name, []).append((process, family))
        together.update((name, _gauge(parts)) for name, parts in gauges.items())
        return list(together.values())


def _form(family: Family) -> object:
    """Return what two families must share to be added up."""
    bounds = frozenset(value for name, labels in family.samples for key, value in labels if key == "le")
    return family.kind, bounds if family.kind == "histogram" else None


def _sum_into(together: dict[str, Family], family: Family) -> None:
    total = together.setdefault(family.name, Family(family.name, family.kind, family.help))
    for key, value in family.samples.items():
        total.samples[key] = total.samples.get(key, 0.0) + value


def _gauge(parts: list[tuple[_Process, Family]]) -> Family:
    """Make one gauge of those of several processes, as its mode says."""
    first = parts[0][1]
    made = Family(first.name, first.kind, first.help, first.mode)
    mode = first.mode.removeprefix("live")
    if mode in COMBINED:
        for key, values in _by_key(parts).items():
            made.samples[key] = COMBINED[mode](values)
    elif mode == "mostrecent":
        _, latest = max(parts, key=lambda part: part[0].order)
        made.samples.update(latest.samples)
    else:
        for process, family in parts:
            for (name, labels), value in family.samples.items():
                made.samples[name, _with_process(labels, process.slot)] = value
    return made


def _by_key(parts: list[tuple[_Process, Family]]) -> dict[tuple[str, Labels], list[float]]:
    found: dict[tuple[str, Labels], list[float]] = {}
    for _, family in parts:
        for key, value in family.samples.items():
            found.setdefault(key, []).append(value)
    return found


def _with_process(labels: Labels, slot: int) -> Labels:
    return tuple(sorted({**dict(_free(labels)), "process": str(slot)}.items()))


def _free(labels: Labels) -> Iterator[tuple[str, str]]:
    """Yield labels, a user's own ``process`` under another name."""
    for name, value in labels:
        yield "exported_process" if name == "process" else name, value
