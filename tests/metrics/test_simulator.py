"""The simulator: its model against known results, and what it says of the policies that are shipped."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from pythia_core import ConfigError
from pythia_metrics.commands import scaling
from pythia_metrics.comparing import COMPARED, DEARER, cheapest, compare, table
from pythia_metrics.named import KINDS
from pythia_metrics.plots import page
from pythia_metrics.simulator import Report, World, simulate
from pythia_metrics.traces import TRACES, Trace, load, make
from pythia_metrics.twins import Fixed, Hpa

WORLD = World()


def test_a_queue_that_is_fed_twice_its_rate_is_as_old_as_it_is_long() -> None:
    """20 a second for 100 s at 10 a second: the last waits as long as it took to come, and half are done in time."""
    trace = Trace(name="flood", arrivals=[20.0] * 100 + [0.0] * 200)
    report = simulate(trace, Fixed(1), "one", World(most=1))
    assert report.oldest == pytest.approx(100, abs=1)
    assert report.p50 == pytest.approx(50, abs=1)
    assert report.misses == pytest.approx(0.4, abs=0.02)  # of the last 40 s of arrivals, older than 60 s
    assert report.worker_hours == pytest.approx(300 / 3600)


def test_what_is_left_at_the_end_counts() -> None:
    """A policy that never works anything off has no low age."""
    report = simulate(Trace(name="flood", arrivals=[20.0] * 200), Fixed(1), "one", World(most=1))
    assert report.oldest == 100 and report.misses > 0.2


def test_an_impossible_load_is_called_so() -> None:
    """No policy is blamed for what --max forbids."""
    flood, calm = Trace(name="flood", arrivals=[200.0] * 200), Trace(name="calm", arrivals=[5.0] * 200)
    assert simulate(flood, KINDS["drain"](), "drain", WORLD).infeasible
    assert not simulate(calm, KINDS["drain"](), "drain", WORLD).infeasible


def test_the_same_seed_is_the_same_load() -> None:
    """And another is another."""
    first = make("bursts", seed=1, seconds=600, unit=7.0)
    assert first == make("bursts", seed=1, seconds=600, unit=7.0)
    assert first.arrivals != make("bursts", seed=2, seconds=600, unit=7.0).arrivals


@pytest.fixture(scope="module")
def reports() -> dict[tuple[str, str], Report]:
    """Try the policies on an hour of each shipped trace."""
    rows = compare((), (*COMPARED, "hpa"), WORLD, seconds=2700, seeds=1, options={})
    return {(row.trace, row.policy): row for row in rows}


@pytest.mark.parametrize("trace", [name for name in TRACES if name != "batch"])
def test_drain_misses_nothing(trace: str, reports: dict[tuple[str, str], Report]) -> None:
    """On none of the shipped loads that can be done without; a pile at one moment is measured, then done."""
    assert reports[trace, "drain"].misses == 0


def test_drain_does_what_can_be_done_of_a_pile(reports: dict[tuple[str, str], Report]) -> None:
    """600 s of one process's work at once: it takes as many as it may, and few messages are late."""
    assert reports["batch", "drain"].misses < 0.02
    assert reports["batch", "drain"].misses <= reports["batch", "busy"].misses


def test_drain_does_not_flap(reports: dict[tuple[str, str], Report]) -> None:
    """A constant load is held at a constant number; raw lag over a threshold goes up and down all the time."""
    assert reports["flat", "drain"].changes <= 2
    assert reports["flat", "drain"].reversals == 0
    assert reports["flat", "hpa"].reversals > 5


def test_the_table_says_why_the_default_is_not_the_cheapest(reports: dict[tuple[str, str], Report]) -> None:
    """Whoever sees that another costs less learns what it costs in age."""
    lines = table([report for (trace, _), report in reports.items() if trace == "step"])
    assert lines[0] == "step"
    assert any(line.endswith("<") for line in lines)
    assert any(line.startswith("drain costs") and "lets messages grow older" in line for line in lines)


@pytest.mark.parametrize("trace", TRACES)
def test_drain_is_the_best_or_it_is_said_why_not(trace: str, reports: dict[tuple[str, str], Report]) -> None:
    """It misses no more than any other that is built in, at 1.1 times the cheapest's cost, or the report says why."""
    block = [report for (name, _), report in reports.items() if name == trace]
    drain, best = reports[trace, "drain"], cheapest(block)
    assert best is not None
    assert all(round(drain.misses, 4) <= round(reports[trace, name].misses, 4) for name in COMPARED)
    dear = drain.worker_hours > DEARER * best.worker_hours or drain.misses > best.misses
    assert (
        any((line.startswith("drain ") and "than" in line) or "drain costs" in line for line in table(block))
        == dear
    )


def test_a_stuck_partition_is_no_reason_for_more(reports: dict[tuple[str, str], Report]) -> None:
    """What lies behind its first message grows and is nobody's to work off; raw lag goes to the most there may be."""
    drain, raw_lag = reports["poison", "drain"], reports["poison", "lag"]
    assert drain.waits[-1] > 1500 and drain.misses == 0
    assert drain.worker_hours < 0.7 * raw_lag.worker_hours
    assert drain.at_max < 0.1 < raw_lag.at_max


def test_cost_is_compared_with_one_who_knew_the_load() -> None:
    """Twice as many as were needed each minute is 2; what is needed is at least --min and at most --max."""
    trace = Trace(name="two", arrivals=[20.0] * 120 + [0.0] * 60)
    assert simulate(trace, Fixed(4), "four", WORLD).over_provision == pytest.approx(4 * 3 / (2 + 2 + 1))
    assert simulate(trace, Fixed(1), "one", World(most=1)).over_provision == pytest.approx(1.0)
    assert simulate(trace, Fixed(1), "one", WORLD).arrivals == (20.0, 20.0, 0.0)


def test_the_page_shows_every_policy_on_every_trace(
    reports: dict[tuple[str, str], Report], tmp_path: Path
) -> None:
    """A table and a picture for each trace, well formed, with nothing from elsewhere; a stranger's file name is text."""
    file, mine = tmp_path / "page.html", tmp_path / "<b>mine.csv"
    mine.write_text("0,5\n300,5\n")
    arguments = ["simulate", "step", str(mine), "--seconds", "600", "--seeds", "1", "--plots", str(file)]
    assert CliRunner().invoke(scaling, arguments).exit_code == 0
    text = file.read_text()
    assert text.count("<svg") == text.count("<table>") == 2
    assert "&lt;b&gt;mine" in text and "<b>mine" not in text
    assert "http" not in text and "src=" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        drawn = ElementTree.fromstring(svg)
        assert len(drawn.findall("path/title")) == 1 + 2 * (len(COMPARED) + 3)
        numbers = [
            float(n) for path in drawn.findall("path") for n in re.findall(r"[\d.]+", path.attrib["d"])
        ]
        assert all(0 <= number <= 860 for number in numbers)
    assert page([], 60.0, cheapest).count("<svg") == 0


def test_a_processor_policy_scales_waiting_work_in(reports: dict[tuple[str, str], Report]) -> None:
    """Why it is no default: with a handler that waits the processor is idle while the pile grows."""
    rows = compare(["step"], ["cpu"], WORLD, seconds=1200, seeds=1, options={})
    assert rows[0].misses > 0.5 and rows[0].changes == 0


def test_the_twin_has_kubernetes_tolerance_and_window() -> None:
    """10 % is no change, and fewer only after five minutes of fewer."""
    from tests.metrics.snapshots import queue, snapshot

    twin, state = Hpa(threshold=10.0), dict[str, Any]()
    answers = [
        twin.decide(snapshot(now, desired=4, queues=(queue(backlog=lag),)), state).replicas
        for now, lag in ((0, 43), (15, 60), (30, 10), (290, 10), (331, 10))
    ]
    assert answers == [4, 6, 6, 6, 1]


@pytest.mark.parametrize(
    "text",
    [
        "seconds,rate\n0,5\n2,7\n4,0\n",
        json.dumps({"data": {"result": [{"values": [[100, "5"], [102, "7"], [104, "0"]]}]}}),
    ],
    ids=["csv", "prometheus"],
)
def test_a_file_is_a_trace(text: str, tmp_path: Path) -> None:
    """A rate holds until the next."""
    file = tmp_path / "mine"
    file.write_text(text)
    assert list(load(file).arrivals) == [5, 5, 7, 7, 0]


@pytest.mark.parametrize("text", ["", "a\nb,c\n", "{}", "1,1\n1,1\n"])
def test_what_is_no_trace_is_refused(text: str, tmp_path: Path) -> None:
    """With the file's name."""
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.csv is no trace"):
        load(file)


def test_the_command_prints_json() -> None:
    """One object for each policy and trace, for whoever plots it."""
    result = CliRunner().invoke(
        scaling, ["simulate", "step", "--policy", "drain", "--seconds", "600", "--seeds", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.output)
    assert (row["trace"], row["policy"]) == ("step", "drain") and row["worker_hours"] > 0
