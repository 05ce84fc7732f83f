"""The benchmarks run: tiny counts, and no word about time, which is what `nox -s bench` is for."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import BENCHES, main
from bench.harness import Bench, Contender, Goal, Result, Standing, measure
from bench.latency import percentile
from bench.probe import Figure, Findings, Found, Probe, Subject, examine
from bench.run import Measurement
from bench.turn import Turn
from tests.servers.rabbitmq import RabbitServer

NO_BROKER = ["engine", "layers", "tracing", "waiting", "growth"]
REDIS = ["redis", "faststream", "publish", "latency", "process"]
KAFKA = ["kafka", "kafka-librdkafka", "kafka-faststream"]
RABBITMQ = ["rabbitmq", "rabbitmq-prefetch-10", "rabbitmq-aio-pika", "rabbitmq-faststream"]


def bench_of(*contenders: Contender) -> Bench:
    """Return a bench whose reference is the bare loop over premade messages."""
    reference = Contender("bare", "bench.engine:bare")
    return Bench(name="toy", title="a toy", messages=10, reference=reference, contenders=contenders)


def standing(goal: Goal | None, *seconds: float) -> Standing:
    """Return a contender that took so many times the reference's time."""
    turns = [Measurement(each, each, 10) for each in seconds]
    return Standing(Contender("it", "x:y", goal), turns, [Measurement(1.0, 1.0, 10)] * len(turns))


def found(figure: Figure, *values: float, beside: tuple[float, ...] = ()) -> Found:
    """Return a figure that was measured."""
    return Found(Subject("it", "x:y", [figure]), figure, values, beside)


def run_main(file: Path, *arguments: str) -> dict[str, list[dict[str, object]]]:
    """Run the command line with one turn and few messages, and return what it wrote."""
    result = CliRunner().invoke(main, [*arguments, "--quick", "--json", str(file)])
    assert result.exit_code == 0, result.output
    written: dict[str, list[dict[str, object]]] = json.loads(file.read_text())
    return written


def everything_is_measured(name: str, file: Path) -> None:
    """Run one of the benches, each of whose contenders looks itself whether everything is settled or written."""
    bench, written = BENCHES[name], run_main(file, name)
    if bench.needs is not None and find_spec(bench.needs) is None:
        assert written["benches"] == []
        return
    (told,) = written["benches"] + written["probes"]
    assert told["versions"]
    if isinstance(bench, Probe):
        assert isinstance(told["figures"], list)
        assert len(told["figures"]) == sum(len(subject.figures) for subject in bench.subjects)
    else:
        assert isinstance(told["contenders"], list)
        assert [each["name"] for each in told["contenders"]] == [each.name for each in bench.everyone]


def test_every_bench_is_tried_here() -> None:
    """A new one joins one of the lists above."""
    assert sorted(NO_BROKER + REDIS + KAFKA + RABBITMQ) == sorted(BENCHES)


@pytest.mark.parametrize("name", NO_BROKER)
def test_a_bench_runs(name: str, tmp_path: Path) -> None:
    """Everybody in it works."""
    everything_is_measured(name, tmp_path / "out.json")


@pytest.mark.redis
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("name", REDIS)
def test_a_bench_on_redis_runs(name: str, tmp_path: Path) -> None:
    """Everybody in it works; each asks Redis at its end whether anything is unread or pending."""
    everything_is_measured(name, tmp_path / "out.json")


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka_server")
@pytest.mark.parametrize("name", KAFKA)
def test_a_bench_on_kafka_runs(name: str, tmp_path: Path) -> None:
    """Everybody in it works; our own and the bare loop ask Kafka at their end whether anything is uncommitted."""
    everything_is_measured(name, tmp_path / "out.json")


@pytest.mark.parametrize("name", RABBITMQ)
def test_a_bench_on_rabbitmq_runs(
    rabbitmq_server: RabbitServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody in it works; each asks RabbitMQ at its end whether anything is left in its queue."""
    monkeypatch.setattr("bench.rabbitmq.server", lambda: rabbitmq_server)
    everything_is_measured(name, tmp_path / "out.json")


def test_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round has one turn of everybody, the reference first; who has a share gets fewer messages."""
    turns: list[tuple[str, int]] = []

    def turn(name: str, function: str, messages: int, place: object) -> Turn:
        turns.append((name, messages))
        return Turn(Measurement(float(len(turns)), 1.0, messages), {})

    monkeypatch.setattr("bench.harness.turn", turn)
    result = measure(bench_of(Contender("a", ""), Contender("b", "", share=0.5)), pairs=2)
    assert turns == [("bare", 10), ("a", 10), ("b", 5)] * 2
    assert [each.time_ratios for each in result.standings] == [[1.0, 1.0], [2.0, 5 / 4], [6.0, 3.0]]


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """One round that another program disturbed changes nothing."""
    assert standing(None, 2.0, 2.5, 90.0).time_ratio == 2.5


@pytest.mark.parametrize(
    ("goal", "seconds", "reached"),
    [
        (Goal("speed", 0.9), 1.1, True),
        (Goal("speed", 0.9), 1.2, False),
        (Goal("time", 8), 8.0, True),
        (Goal("time", 8), 8.1, False),
        (
            Goal("more", 0.5e6),
            6.0,
            True,
        ),  # ten messages in 6 s are 0.6 s each, 0.5 s more than the reference's
        (Goal("more", 0.5e6), 6.1, False),
        (None, 100.0, None),
    ],
)
def test_a_goal_is_reached_or_not(goal: Goal | None, seconds: float, reached: bool | None) -> None:
    """A goal for speed is a floor, one for time or for what is added a ceiling; without a goal there is no verdict."""
    assert standing(goal, seconds).reached is reached


@pytest.mark.parametrize(
    ("figure", "values", "beside", "reached"),
    [
        (Figure("p99", "ms", most=5), (1.0, 5.0, 90.0), (), True),
        (Figure("p99", "ms", most=5), (1.0, 5.1, 90.0), (), False),
        (Figure("share", "", least=0.9), (0.9,), (), True),
        (Figure("share", "", least=0.9), (0.8,), (), False),
        (Figure("10", "us", beside="1", most_ratio=1.1), (2.0, 3.0, 4.0), (2.0, 3.0, 1.0), True),
        (Figure("10", "us", beside="1", most_ratio=1.1), (2.0, 3.0, 4.0), (2.0, 2.0, 1.0), False),
        (Figure("p50", "ms"), (1.0,), (), None),
    ],
)
def test_a_figure_is_good_or_not(
    figure: Figure, values: tuple[float, ...], beside: tuple[float, ...], reached: bool | None
) -> None:
    """The median counts; beside another figure the median of the ratios within a round."""
    assert found(figure, *values, beside=beside).reached is reached


def test_losses_are_told() -> None:
    """Whoever missed a goal is named with what was found; whoever has none is not."""
    standings = [standing(Goal("time", 2), 1.0), standing(Goal("time", 2), 3.0), standing(None, 9.0)]
    assert Result(bench_of(), 10, standings, (0.0, 0.0)).missed == [
        "toy: it is 3.00 x time, the goal is <= 2 x time"
    ]
    figures = [found(Figure("p50", "ms", most=5), 4.0), found(Figure("p99", "ms", most=5), 6.0)]
    probe = Probe(name="toy", title="a toy", messages=10, few=1, subjects=[])
    assert Findings(probe, 10, figures, (0.0, 0.0)).missed == [
        "toy: it, p99 is 6 ms, the goal is <= 5 ms",
    ]


@pytest.mark.parametrize(("percent", "value"), [(50, 50.0), (99, 99.0), (100, 100.0), (1, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: int, value: float) -> None:
    """By the nearest rank: of a hundred latencies one is worse than the 99th."""
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value
    assert percentile([7.0], percent) == 7.0


def test_a_contender_that_fails_ends_the_bench() -> None:
    """A figure is never made of the turns that happened to work."""
    with pytest.raises(RuntimeError, match="exit code 1"):
        measure(bench_of(Contender("broken", "bench.engine:no_such_function")), pairs=1)


def test_a_contender_has_to_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there is nothing to compare."""
    monkeypatch.setattr("bench.harness.turn", lambda *arguments: Turn(None, {}))
    with pytest.raises(RuntimeError, match=r"without Run\.stop"):
        measure(bench_of(), pairs=1)


def test_a_subject_has_to_measure_all_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is left out is an error, not a blank."""
    monkeypatch.setattr("bench.probe.turn", lambda *arguments: Turn(None, {}))
    subject = Subject("it", "x:y", [Figure("p99", "ms")])
    with pytest.raises(KeyError, match="p99"):
        examine(Probe(name="toy", title="a toy", messages=1, few=1, subjects=[subject]), pairs=1)
