"""The report of a pod: a real one is read by whoever scales, and what is none is refused."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from pythia_metrics.report import Counts, PodReport, read
from tests.metrics.outside import pod
from tests.metrics.running import get, monitored, wait_for
from tests.waiting import wait_until


def counters(settled: int, in_flight: int = 0) -> dict[str, Any]:
    """Return what a process reports, as far as it is counted here."""
    return {"workers": [{"name": "orders", "counters": {"settled": settled, "in_flight": in_flight}}]}


def test_what_was_settled_outlives_who_settled_it() -> None:
    """What the dead had in flight is in flight no more."""
    counts = Counts()
    counts.take(1, counters(10, 2))
    counts.take(2, counters(5, 1))
    counts.take(1, counters(12, 3))
    assert (counts.settled(), counts.in_flight()) == ({"orders": 17}, {"orders": 4})
    counts.forget(1)
    assert (counts.settled(), counts.in_flight()) == ({"orders": 17}, {"orders": 1})


def test_a_report_comes_through() -> None:
    """What is written is what is read, and what a newer version adds is ignored."""
    said = pod("a", 7, processes=2, paused=("brake",))
    data = {**attrs.asdict(said), "news": 1}
    assert read(json.dumps(data)) == said


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1}', "nothing is known yet\n"],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    """So is one of another version: its words may mean something else."""
    with pytest.raises(ValueError, match=r"report|JSON|Expecting"):
        read(text)


def test_a_field_of_another_kind_is_refused() -> None:
    """A number that is a text would be added up."""
    with pytest.raises(ValueError, match="settled"):
        read(json.dumps({**attrs.asdict(pod()), "settled": {"orders": "many"}}))


def test_a_fleet_reports_itself(tmp_path: Path) -> None:
    """What ten jobs did stands in it, and nothing of them; another life of it has another name."""
    with monitored(tmp_path, "-n", "2") as (running, port):
        wait_for(port, "pythia_settled_messages_total", lambda n: n == 20)

        def report() -> PodReport:
            status, body = get(port, "/report")
            assert status == 200
            return read(body)

        began = time.monotonic()
        wait_until(lambda: report().settled == {"jobs": 20}, "all is settled")
        wait_until(lambda: all(one.state == "ready" for one in report().processes), "both are ready")
        said = report()
        assert len(said.processes) == 2 and said.in_flight == {"jobs": 0} and not said.stopping
        assert said.start_s > 0 and said.age_s >= time.monotonic() - began
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
