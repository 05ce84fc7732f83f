"""How busy the processors are that this process may use: the machine's, or those of the container's quota.

It stands apart from :mod:`pythia_core.budget`, which reads bounds once: this is measured again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from pythia_core.control_groups import Group, groups, lines

__all__ = ["ProcessorUse", "quota"]

Reading = tuple[float, float]  # seconds that were used, and that could have been


class ProcessorUse:
    """Measures the time from one call to the next; the first one begins.

    Of the machine and of each control group with a quota the busiest counts: whichever is used up is what is short. A
    neighbour's work counts, since it takes the same processors.

    Args:
        root: where ``proc`` and ``sys`` are.
        machine: returns the machine's seconds, used and in all.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        machine: Callable[[], Reading] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machine = machine or _machine
        self._clock = clock
        self._quotas = list(quota(root))
        self._last = self._read()

    def __call__(self) -> float | None:
        """Return per cent since the last call, 0 to 100, or None if no time has passed."""
        now, before = self._read(), self._last
        self._last = now
        shares = [
            (used - was_used) / (time - was_time)
            for (used, time), (was_used, was_time) in zip(now, before, strict=True)
            if time > was_time
        ]
        if not shares:
            return None
        return 100 * min(max(*shares, 0.0), 1.0)  # differences of coarse counters may lie a little outside

    def _read(self) -> list[Reading]:
        now = self._clock()
        return [self._machine(), *((_used(group), processors * now) for group, processors in self._quotas)]


def quota(root: Path = Path("/")) -> Iterator[tuple[Group, float]]:
    """Yield each control group of this process that has a quota, with how many processors' time that is.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    for group in groups("cpu", root):
        if group.unified:
            text = " ".join(lines(group.folder / "cpu.max")).split()
            most, period = (text[0], text[1]) if len(text) == 2 else ("max", "0")
        else:
            most, period = (
                str(group.number("cpu.cfs_quota_us") or 0),
                str(group.number("cpu.cfs_period_us") or 0),
            )
        if most.isdigit() and period.isdigit() and int(most) and int(period):
            yield group, int(most) / int(period)


def _used(group: Group) -> float:
    """Return the seconds that a group has used."""
    if not group.unified:  # nanoseconds, in the group of the same name of another controller
        return (group.number("cpuacct.usage") or 0) / 1e9
    said = dict(line.split(" ", 1) for line in lines(group.folder / "cpu.stat") if " " in line)
    return int(said.get("usage_usec", 0)) / 1e6


def _machine() -> Reading:
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total
