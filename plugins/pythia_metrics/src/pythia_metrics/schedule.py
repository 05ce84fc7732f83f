"""Floors and caps by the clock on the wall: cron windows with a time zone, around any policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs

from pythia_core import ConfigError, Recommendation, ScalingPolicy, Snapshot

__all__ = ["Cron", "Schedule", "Window"]

LONGEST = timedelta(days=7)  # a window that began earlier is not looked for

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


@attrs.frozen
class Cron:
    """Five fields as in crontab: numbers, ``*``, ranges, steps and lists.

    Raises:
        ConfigError: naming the field that is none.
    """

    text: str
    _sets: tuple[frozenset[int], ...] = attrs.field(init=False)
    _any_day: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        words = self.text.split()
        if len(words) != len(FIELDS):
            raise ConfigError(f"{self.text!r} is no cron expression: it has {len(words)} fields, not 5")
        sets = [_numbers(word, *field) for word, field in zip(words, FIELDS, strict=True)]
        sets[4] = frozenset(day % 7 for day in sets[4])  # 7 is Sunday too
        object.__setattr__(self, "_sets", tuple(sets))
        object.__setattr__(self, "_any_day", "*" in (words[2], words[4]))

    def matches(self, at: datetime) -> bool:
        """Tell whether a minute is meant. Day and weekday, both given, mean either, as in crontab."""
        minute, hour, day, month, weekday = self._sets
        if at.minute not in minute or at.hour not in hour or at.month not in month:
            return False
        days = (at.day in day, at.isoweekday() % 7 in weekday)
        return all(days) if self._any_day else any(days)


def _numbers(word: str, name: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            low = least if span == "*" else int(first)
            high = most if span == "*" or (slash and not dash) else int(last) if dash else low
            every = int(step) if slash else 1
        except ValueError:
            raise ConfigError(f"{part!r} is no {name} of a cron expression") from None
        if not (least <= low <= high <= most and every > 0):
            raise ConfigError(f"{part!r} is no {name}: it must lie between {least} and {most}")
        found.update(range(low, high + 1, every))
    return frozenset(found)


@attrs.frozen(kw_only=True)
class Window:
    """A time that comes again.

    Args:
        start: cron expression of its first minute; the minutes of an hour are ``0``, for example.
        hours: how long it is.
        floor: the fewest processes meanwhile; ``cap``: the most.
    """

    start: str
    hours: float
    floor: int | None = None
    cap: int | None = None

    def __attrs_post_init__(self) -> None:
        Cron(self.start)
        if not 0 < self.hours <= LONGEST / timedelta(hours=1):
            raise ConfigError(f"hours of a window is {self.hours:g}; it must lie above 0 and be 168 at most")

    def is_open(self, at: datetime) -> bool:
        """Tell whether it began less than ``hours`` ago."""
        cron, minute = Cron(self.start), at.replace(second=0, microsecond=0)
        for _ in range(int(self.hours * 60)):
            if cron.matches(minute):
                return True
            minute -= timedelta(minutes=1)
        return False


@attrs.define
class Schedule:
    """Bounds for another policy, by windows of time.

    Args:
        policy: what decides within the bounds.
        windows: where several are open the highest floor and the lowest cap count.
        zone: IANA name, such as ``Europe/Berlin``.
    """

    policy: ScalingPolicy
    windows: Sequence[Window]
    zone: str = "UTC"

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the policy's answer within the bounds. A floor holds also while nothing is known."""
        said = self.policy.decide(snapshot, state)
        at = datetime.fromtimestamp(snapshot.wall, ZoneInfo(self.zone))
        opened = [window for window in self.windows if window.is_open(at)]
        floors = [window.floor for window in opened if window.floor is not None]
        caps = [window.cap for window in opened if window.cap is not None]
        floor = max([*floors, *([said.floor] if said.floor is not None else [])], default=None)
        cap = min([*caps, *([said.cap] if said.cap is not None else [])], default=None)
        inputs: Mapping[str, float] = {**said.inputs, "windows": float(len(opened))}
        return attrs.evolve(said, floor=floor, cap=cap, inputs=inputs)
