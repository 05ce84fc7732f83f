"""Schedules: floors and caps by the clock on the wall, in the zone that was named."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import ConfigError
from pythia_metrics.named import raw
from pythia_metrics.policies import Drain
from pythia_metrics.schedule import Cron, Schedule, Window
from tests.metrics.snapshots import queue, snapshot

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "at", "matches"),
    [
        ("0 8 * * 1-5", "2026-11-25 08:00", True),  # a Wednesday
        ("0 8 * * 1-5", "2026-11-28 08:00", False),  # a Saturday
        ("*/15 * * * *", "2026-11-25 08:45", True),
        ("*/15 * * * *", "2026-11-25 08:46", False),
        ("0 0 1 * 0", "2026-11-29 00:00", True),  # either: it is a Sunday
        ("0 0 1 * 7", "2026-12-01 00:00", True),  # either: it is the first
        ("5-10/5,30 1 * 2 *", "2026-02-03 01:10", True),
    ],
)
def test_cron_is_crontabs(text: str, at: str, matches: bool) -> None:
    """Lists, ranges, steps, Sunday as 0 and 7, and day or weekday."""
    assert Cron(text).matches(datetime.fromisoformat(at)) is matches


@pytest.mark.parametrize("text", ["0 8 * *", "60 * * * *", "a * * * *", "*/0 * * * *", "5-1 * * * *"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    """With the part that is wrong."""
    with pytest.raises(ConfigError, match=r"cron|lie between"):
        Cron(text)


def at(text: str) -> float:
    """Return a time in Berlin as epoch seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


SCHEDULE = Schedule(
    Drain(),
    [Window(start="0 8 * * 1-5", hours=10, floor=4), Window(start="0 12 * * *", hours=1, cap=6)],
    "Europe/Berlin",
)


@pytest.mark.parametrize(
    ("when", "floor", "cap"),
    [
        ("2026-11-25 07:59", None, None),
        ("2026-11-25 08:00", 4, None),
        ("2026-11-25 12:30", 4, 6),
        ("2026-11-25 17:59", 4, None),
        ("2026-11-25 18:00", None, None),
        ("2026-07-01 08:00", 4, None),  # in summer, by the same clock
    ],
)
def test_a_window_is_open_for_its_hours(when: str, floor: int | None, cap: int | None) -> None:
    """By the clock on the wall of its zone, summer and winter."""
    answer = SCHEDULE.decide(snapshot(wall=at(when)), {})
    assert (answer.floor, answer.cap) == (floor, cap)


def test_a_floor_holds_while_nothing_is_known() -> None:
    """Eight in the morning comes also when the broker does not answer."""
    answer = SCHEDULE.decide(snapshot(wall=at("2026-11-25 09:00"), queues=(queue(backlog=None),)), {})
    assert answer.confidence == "unknown" and answer.floor == 4


@given(minutes=st.integers(0, 7 * 24 * 60), hours=st.floats(0.5, 168))
def test_a_window_closes(minutes: int, hours: float) -> None:
    """It is open from its start for as long as it says, and not before."""
    begin = datetime(2026, 3, 2, 8, 0)  # a Monday
    window = Window(start="0 8 2 3 *", hours=hours, floor=1)
    assert window.is_open(begin + timedelta(minutes=minutes)) is (minutes < int(hours * 60))
    assert not window.is_open(begin - timedelta(minutes=1))


def test_a_schedule_is_made_by_name() -> None:
    """As a configuration file does it."""
    made: Any = raw(
        {"kind": "schedule", "policy": "drain", "windows": [{"start": "0 8 * * *", "hours": 2.0, "floor": 3}]}
    )
    assert made == Schedule(Drain(), [Window(start="0 8 * * *", hours=2.0, floor=3)])
