"""What people see of a fleet: sums that never fall, lines that do not repeat themselves, a panel that leaves no trace."""

import fcntl
import io
import logging
import re
import signal
import struct
import termios
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core.supervisor.figures import Figures, Row, Totals
from pythia_core.supervisor.panel import render
from pythia_core.supervisor.shell import Supervisor
from pythia_core.supervisor.views import LogLines, Overview, Queue, choose_view, count, summary
from pythia_core.supervisor.wire import Options
from tests.supervisor.running import run_on_terminal

SOME = Totals(done=1_234_567, in_flight=4096, retried=12, dead_lettered=3, rate=812.3, rss=512 << 20)


def row(number: int, state: str = "ready", reason: str = "") -> Row:
    """Return a child for people to look at."""
    return Row(
        number=number,
        slot=number,
        pid=70_000 + number,
        state=state,
        reasons=(reason,) if reason else (),
        totals=SOME,
    )


def overview(*rows: Row, totals: Totals = SOME, stopping: bool = False) -> Overview:
    """Return a fleet."""
    ready = sum(row.state == "ready" for row in rows)
    return Overview(
        target=len(rows),
        ready=ready,
        rows=rows,
        totals=totals,
        restarts=1,
        stopping=stopping,
        uptime=200.0,
        title="worker.py",
    )


def report(**counters: int) -> dict[str, object]:
    """Return a child's report."""
    return {"counters": counters, "rss": 100}


# Figures --------------------------------------------------------------------------------------------


def test_a_dead_childs_work_stays_in_the_sum() -> None:
    """What it had in flight does not: that is somebody else's now."""
    figures = Figures()
    figures.take(1, report(finished=10, released=2, dead_lettered=1, in_flight=5), 0.0)
    figures.take(2, report(finished=4, in_flight=1), 0.0)
    figures.forget(1)
    total = figures.all(0.0)
    assert (total.done, total.dead_lettered, total.in_flight, total.rss) == (11, 1, 1, 100)


def test_a_rate_is_the_mean_of_the_last_seconds() -> None:
    """It ends with the reports."""
    figures = Figures()
    for second in range(10):
        figures.take(1, report(finished=100 * second), float(second))
    assert figures.of(1, 9.0).rate == pytest.approx(100)
    assert figures.all(9.0).rate == pytest.approx(100)
    assert figures.of(1, 30.0).rate == 0


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50), st.booleans())))
def test_no_total_falls(steps: list[tuple[int, int, bool]]) -> None:
    """Whoever reports or dies, in whatever order."""
    figures, counts, last = Figures(), dict.fromkeys((1, 2, 3), 0), 0
    for number, more, dies in steps:
        counts[number] += more
        figures.take(number, report(finished=counts[number]), 0.0)
        if dies:
            figures.forget(number)
            counts[number] = 0
        assert figures.all(0.0).done >= last
        last = figures.all(0.0).done


# Lines ----------------------------------------------------------------------------------------------


def test_a_line_says_all_that_counts() -> None:
    """One line, for people and for grep."""
    assert summary(overview(row(1), row(2, "waiting"))) == (
        "1 of 2 ready, 812/s, 4,096 in flight, 1,234,567 done, 12 retried, 3 dead letters, 1 restart"
    )
    assert summary(overview(stopping=True)).startswith("stopped, ")
    assert summary(overview(row(1), stopping=True)).startswith("1 draining, ")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (0.44, "0.4"), (9, "9"), (9.5, "9.5"), (12345.6, "12,346")]
)
def test_numbers_are_for_people(number: float, text: str) -> None:
    """Small rates have a decimal, large numbers have commas."""
    assert count(number) == text


def test_lines_come_every_ten_seconds_and_rarely_while_nothing_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An idle worker writes one line a minute, also if its memory moves."""
    caplog.set_level(logging.INFO)
    lines, fleet = LogLines(), overview(row(1), totals=Totals(done=1))

    def seconds_with_lines(start: int, end: int, busy: bool) -> list[int]:
        found = []
        for second in range(start, end):
            caplog.clear()
            totals = attrs.evolve(fleet.totals, rss=second, done=second if busy else 1)
            lines.show(attrs.evolve(fleet, totals=totals), float(second))
            found += [second] * len(caplog.records)
        return found

    assert seconds_with_lines(0, 200, busy=False) == [10, 70, 130, 190]
    assert seconds_with_lines(200, 240, busy=True) == [200, 210, 220, 230]


def test_a_pipe_or_a_dumb_terminal_gets_lines() -> None:
    """The panel is for terminals that can."""
    assert isinstance(choose_view(io.StringIO(), {"TERM": "xterm"}), LogLines)


# Panel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("children", [1, 2, 30])
def test_a_panel_fits(width: int, children: int) -> None:
    """No line is wider than the terminal, no panel higher than it may be, and no number is cut."""
    lines = render(overview(*(row(n) for n in range(children))), width, 12, colour=False)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= width
    assert sum("1,234,567" in line for line in lines) == len(lines) - 2
    assert all("3" in line.split() for line in lines[2:])


def test_a_long_path_leaves_room_for_the_state() -> None:
    """Its end is what tells files apart."""
    fleet = attrs.evolve(overview(row(1)), title="/srv/" + "deep/" * 30 + "worker.py", paused=True)
    for width in (60, 80, 120):
        line = render(fleet, width, 12, colour=False)[0]
        assert line.startswith("…") and "worker.py  1 of 1 ready" in line and "paused" in line, line


def test_a_large_fleet_shows_who_needs_a_look() -> None:
    """Those that are not ready come before those that are, and the rest is counted."""
    rows = [row(n) for n in range(40)]
    rows[33] = row(33, "waiting", "connection refused")
    lines = render(overview(*rows), 120, 8, colour=False)
    assert len(lines) <= 8 and any(line.split()[:2] == ["33", "70033"] for line in lines)
    assert any("more are ready" in line for line in lines)
    assert lines[-1] == "33: connection refused"


QUEUES = (
    Queue(
        worker="payments",
        destination="orders",
        waiting=1200,
        in_flight=34,
        oldest=187.0,
        arrivals=10.0,
        settled=20.0,
    ),
    Queue(worker="parcels", destination="parcels", waiting=5, at_least=True, arrivals=2.0, settled=1.0),
    Queue(worker="letters", destination="letters"),
)


@pytest.mark.parametrize(("width", "height"), [(60, 10), (80, 12), (80, 24), (200, 50)])
def test_what_is_left_and_what_holds_up_stand_beside_the_processes(width: int, height: int) -> None:
    """All fit; what is not known is no zero, and a reason that several have is said once."""
    why = "intake stopped: the brake is engaged, since 60 of the last 100 messages failed"
    rows = [row(0, reason=why), row(1, reason=why), row(2, "waiting", "connection refused")]
    lines = render(attrs.evolve(overview(*rows), queues=QUEUES), width, height, colour=False)
    assert len(lines) <= height and max(map(len, lines)) <= width
    if height >= 24:
        payments, parcels, letters = (line.split() for line in lines[2:5])
        assert payments[-1] == "2m03s"  # 1,234 left, ten a second more go than come
        assert "5+" in parcels and parcels[-1] == "grows"
        assert letters[-4:] == ["?"] * 4
        text = " ".join(line.strip() for line in lines)
        assert f"0, 1: {why}" in text and "2: connection refused" in text
        assert text.index("2: connection refused") < text.index("0, 1: ")


@pytest.mark.parametrize(
    ("said", "outlook"),
    [
        ({"waiting": 10, "arrivals": 1.0, "settled": 3.0}, 5.0),
        ({"waiting": 0, "in_flight": 10, "arrivals": 0.0, "settled": 0.0}, "stalled"),
        ({"waiting": 0, "in_flight": 0, "arrivals": 0.0, "settled": 0.0}, 0.0),
        ({"waiting": 10, "arrivals": 3.0, "settled": 3.0}, "grows"),
        ({"waiting": None, "arrivals": 3.0, "settled": 3.0}, "?"),
    ],
)
def test_an_outlook_is_a_time_or_a_word(said: dict[str, Any], outlook: float | str) -> None:
    """What has been taken and not settled is left as well; where nothing is settled nobody knows when it will be."""
    assert Queue(worker="w", destination="d", **said).outlook == outlook


def test_a_panel_without_colour_has_none() -> None:
    """NO_COLOR means no escape sequence in the text."""
    assert "\x1b" not in "".join(render(overview(row(1)), 80, 12, colour=False))
    assert "\x1b" in "".join(render(overview(row(1)), 80, 12, colour=True))


def test_the_panel_reserves_its_rows_and_gives_them_back(tmp_path: Path) -> None:
    """On a real terminal: log lines scroll above it, and at the end the whole screen scrolls again."""
    with run_on_terminal(tmp_path, "-n", "2", rows=40) as (running, terminal):
        running.wait_for("begin", 2)
        running.wait_for_text("2 of 2 ready")
        regions = re.findall(r"\x1b\[1;(\d+)r", terminal.text())
        assert regions[-1] == "35"  # a rule, a header, two processes and their sum are five rows
        running.open_gate()
        terminal.type(b"\x03")
        assert running.ends() == 0
        assert terminal.text().rindex("\x1b[r") > terminal.text().rindex("\x1b[1;35r")
        assert terminal.text().rstrip().endswith("2 done, 0 retried, 0 dead letters, 0 restarts")


def test_the_panel_follows_the_terminals_size(tmp_path: Path) -> None:
    """A smaller window gets a panel at its own bottom."""
    with run_on_terminal(tmp_path, rows=40) as (running, terminal):
        running.wait_for("begin")
        running.wait_for_text("\x1b[1;37r")
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 80, 0, 0))
        running.wait_for_text("\x1b[1;17r")
        fcntl.ioctl(
            terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 80, 0, 0)
        )  # too small for any
        running.wait_for_text("\x1b[r", 2)
        running.open_gate()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0


def test_a_view_that_fails_does_not_end_the_fleet(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that only shows may stop what works: it is replaced by log lines, once."""

    class Broken(LogLines):
        def show(self, overview: Overview, now: float) -> None:
            raise OSError("the terminal has gone")

    supervisor = Supervisor(Options(target="jobs.py"), 1, Broken())
    supervisor._show()
    supervisor._show()
    assert len(caplog.records) == 1
    assert type(supervisor.view) is LogLines
