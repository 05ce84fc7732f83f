"""What the page is told: by whom it may be read, and that what is unknown stays unknown."""

import http.client
import itertools
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from pythia_metrics.history import COLUMNS, KEPT, History
from pythia_metrics.instruments import time_to_drain
from pythia_metrics.monitor import MetricsMonitor
from pythia_metrics.state import describe
from tests.metrics.fleets import ERROR, MESSAGE, REFUSED, fleet, report, watched
from tests.metrics.running import get
from tests.metrics.snapshots import queue, snapshot


@pytest.fixture(scope="module")
def monitor() -> Iterator[MetricsMonitor]:
    """A monitor that has seen a fleet."""
    made = watched()
    yield made
    made.close()


def ask(monitor: MetricsMonitor, query: str = "", **headers: str) -> dict[str, Any]:
    """Return the state as a page gets it."""
    assert monitor.address is not None
    connection = http.client.HTTPConnection("127.0.0.1", monitor.address[1], timeout=10)
    connection.request("GET", f"/api/state{query}", headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    said: dict[str, Any] = json.loads(answer.read())
    connection.close()
    return said


def test_at_the_machine_itself_it_says_what_is_stuck_and_why(monitor: MetricsMonitor) -> None:
    """The message, what becomes of it, for how long, and its last error; and why a process is not ready."""
    said = ask(monitor)["fleet"]
    (stuck,) = said["stuck"]
    assert stuck == {
        "slot": 0,
        "worker": "orders",
        "message": MESSAGE,
        "state": "parked",
        "seconds": 312.0,
        "why": ERROR,
    }
    assert said["processes"][3]["reasons"] == [REFUSED]
    assert said["processes"][2]["paused"] == ["brake: most messages fail"]
    assert said["queues"][0]["fullest"][0] == ["orders-0", 900, 12.0]
    assert said["totals"]["dead_lettered"] == 12 and said["totals"]["done"] == 4 * 987


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "rebound.example:9464"},
        {"Host": "127.0.0.1.example"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Host": "10.1.2.3"},
    ],
    ids=str,
)
def test_strangers_see_no_text_of_messages_and_brokers(
    monitor: MetricsMonitor, headers: dict[str, str]
) -> None:
    """Neither a network, nor a page of somebody else's whose name leads to this machine."""
    said = ask(monitor, **headers)
    text = json.dumps(said)
    assert not said["fleet"]["texts"]
    assert "hacked" not in text and "kafka-1.example" not in text and "orders-0" not in text
    assert said["fleet"]["stuck"][0]["seconds"] == 312.0


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "localhost", "localhost:8080", "[::1]:9464"])
def test_who_is_here_is_known_by_the_address_he_asks(monitor: MetricsMonitor, host: str) -> None:
    """A forwarded port is asked by such a name too."""
    assert ask(monitor, Host=host)["fleet"]["texts"]


def test_probes_leave_out_what_is_named_once_or_several_times(monitor: MetricsMonitor) -> None:
    """As Kubernetes' own servers do it."""
    assert monitor.address is not None
    port = monitor.address[1]
    monitor.show({**fleet(time.time(), ready=0), "stopping": True})
    assert get(port, "/readyz?exclude=processes")[0] == 503
    assert get(port, "/readyz?exclude=processes&exclude=running") == (200, "ok\n")
    assert get(port, "/readyz?exclude=processes,running") == (200, "ok\n")
    assert get(port, "/readyz/running")[0] == 503 and get(port, "/livez/loop")[0] == 200
    monitor.show(fleet(time.time()))


def test_history_comes_once(monitor: MetricsMonitor) -> None:
    """A page that has it asks for what is new."""
    said = ask(monitor)["fleet"]["history"]
    assert said["columns"] == list(COLUMNS) and 295 <= len(said["rows"]) <= KEPT
    assert all(len(row) == len(COLUMNS) for row in said["rows"])
    last = said["rows"][-1][0]
    assert ask(monitor, f"?since={last}")["fleet"]["history"]["rows"] == []
    assert ask(monitor, "?since=nonsense")["fleet"]["history"]["rows"] == said["rows"]


def test_history_is_bounded_and_steps_by_two_seconds() -> None:
    """It is told each second, for months."""
    history = History()
    for second in range(3000):
        history.note(fleet(1000.0 + second), 1000.0 + second)
    rows = history.since(0)
    assert len(rows) == KEPT
    assert {after[0] - before[0] for before, after in itertools.pairwise(rows)} == {2.0}  # type: ignore[operator]
    history.note(fleet(rows[-1][0] - 1.0), rows[-1][0] - 1.0)  # type: ignore[operator]
    assert history.since(0) == rows, "a clock was corrected by a second"
    history.note(fleet(5.0), 5.0)
    assert [row[0] for row in history.since(0)] == [5.0]


def test_what_is_unknown_stays_unknown() -> None:
    """A zero would say that nothing is left."""
    unknown = queue(backlog=None, oldest_age_s=None, arrival_rate=None, ack_rate=None)
    seen = {**fleet(1000.0), "snapshot": snapshot(1000.0, queues=(unknown,), true_rate=None)}
    history = History()
    history.note(seen, 1000.0)
    row = dict(zip(COLUMNS, history.since(0)[0], strict=True))
    assert {row[name] for name in ("backlog", "oldest", "arrivals", "settled", "capacity")} == {None}
    said = describe(seen, {}, {}, history, since=0, texts=True)
    assert said["queues"][0]["backlog"] is None and said["queues"][0]["drain_s"] is None
    assert said["queues"][0]["outlook"] == "unknown"


def test_a_handler_that_takes_an_hour_is_no_standstill() -> None:
    """Nothing is settled while it works."""
    still = attrs.evolve(
        queue(backlog=9, ack_rate=0.0), system="kafka", destination="orders", group="order-processors"
    )
    seen = {**fleet(1000.0), "snapshot": snapshot(1000.0, queues=(still,))}
    said = describe(seen, {1: report(0)}, {}, History(), since=0, texts=True)
    assert said["queues"][0]["outlook"] == "worked on"


@pytest.mark.parametrize(
    ("known", "outlook"),
    [
        ({"backlog": 0, "in_flight": 0}, "empty"),
        ({"backlog": 9, "arrival_rate": 10.0, "ack_rate": 0.0}, "stalled"),
        ({"backlog": 9, "arrival_rate": 10.0, "ack_rate": 5.0}, "grows"),
        ({"backlog": 0, "in_flight": 9, "arrival_rate": 5.0, "ack_rate": 10.0}, "shrinks"),
        ({"backlog": 9, "arrival_rate": 10.0, "ack_rate": 10.1}, "steady"),
        ({"backlog": 9, "arrival_rate": None}, "unknown"),
    ],
)
def test_an_outlook_is_one_word(known: dict[str, Any], outlook: str) -> None:
    """By what comes and what goes; delivered messages are left too."""
    seen = {**fleet(1000.0), "snapshot": snapshot(1000.0, queues=(queue(**known),))}
    said = describe(seen, {}, {}, History(), since=0, texts=True)
    assert said["queues"][0]["outlook"] == outlook


def test_the_time_to_drain_counts_what_was_delivered_too() -> None:
    """A process that has taken all there was into its memory has not done it."""
    view = snapshot(1000.0, true_rate=10.0, desired=2)
    assert time_to_drain(queue(backlog=0, in_flight=100), view) == 5.0
    assert time_to_drain(queue(backlog=100), view) == 5.0
    assert time_to_drain(queue(backlog=None), view) is None
    assert time_to_drain(queue(backlog=5), attrs.evolve(view, true_rate=None)) is None


def test_what_no_json_has_is_null() -> None:
    """A policy of a user's own may want infinitely many processes, and the page must still open."""
    monitor = MetricsMonitor()
    monitor.open("127.0.0.1", 0)
    shown = fleet(1000.0)
    shown["decisions"] = [
        attrs.evolve(one, raw=math.inf, inputs={"x": math.nan}) for one in shown["decisions"]
    ]
    monitor.show(shown)
    said = ask(monitor)["fleet"]["scaling"]["decisions"][0]
    monitor.close()
    assert said["raw"] is None and said["inputs"] == {"x": None}


def test_the_dead_count() -> None:
    """Totals never fall."""
    monitor = MetricsMonitor()
    monitor.open("127.0.0.1", 0)
    monitor.take(1, 0, report(0))
    monitor.show(fleet(1000.0))
    monitor.forget(1)
    monitor.take(2, 0, report(0))
    totals = ask(monitor)["fleet"]["totals"]
    monitor.close()
    assert totals["failures"] == 24
