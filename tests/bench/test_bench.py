"""The benchmarks run: tiny counts, and no word about time, which is what `nox -s bench` is for."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import BENCHES, main
from bench.harness import Bench, Contender, Goal, Result, Standing, measure, missed
from bench.run import Measurement, Run


def bench_of(*contenders: Contender) -> Bench:
    """Return a bench whose reference is the bare loop over premade messages."""
    reference = Contender("bare", "bench.engine:bare")
    return Bench(name="toy", title="a toy", messages=10, reference=reference, contenders=contenders)


def standing(goal: Goal | None, *seconds: float) -> Standing:
    """Return a contender that took so many times the reference's time."""
    turns = [Measurement(each, each, 10) for each in seconds]
    return Standing(Contender("it", "x:y", goal), turns, [Measurement(1.0, 1.0, 10)] * len(turns))


def run_main(file: Path, *arguments: str) -> list[dict[str, object]]:
    """Run the command line with one pair, and return what it wrote about each contender."""
    result = CliRunner().invoke(main, [*arguments, "--pairs", "1", "--json", str(file)])
    assert result.exit_code == 0, result.output
    (written,) = json.loads(file.read_text())["benches"]
    contenders: list[dict[str, object]] = written["contenders"]
    for contender in contenders:
        assert str(contender["name"]) in result.output
    return contenders


def test_the_engine_bench_settles_everything(tmp_path: Path) -> None:
    """Each contender of it works, and the engine's say so themselves if a message was not settled."""
    contenders = run_main(tmp_path / "out.json", "engine", "--messages", "600")
    assert len(contenders) == len(BENCHES["engine"].everyone)


@pytest.mark.redis
@pytest.mark.usefixtures("redis_server")
def test_the_redis_bench_settles_everything(tmp_path: Path) -> None:
    """Each contender of it asks Redis at its end whether anything is unread or pending."""
    contenders = run_main(tmp_path / "out.json", "redis", "--messages", "1200")
    assert len(contenders) == len(BENCHES["redis"].everyone)


def test_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round has one turn of everybody, the reference first."""
    turns: list[str] = []

    def turn(contender: Contender, messages: int, place: object) -> Measurement:
        turns.append(contender.name)
        return Measurement(float(len(turns)), 1.0, messages)

    monkeypatch.setattr("bench.harness.turn", turn)
    result = measure(bench_of(Contender("a", ""), Contender("b", "")), pairs=2)
    assert turns == ["bare", "a", "b"] * 2
    assert [each.time_ratios for each in result.standings] == [[1.0, 1.0], [2.0, 5 / 4], [3.0, 6 / 4]]


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
        (None, 100.0, None),
    ],
)
def test_a_goal_is_reached_or_not(goal: Goal | None, seconds: float, reached: bool | None) -> None:
    """A goal for speed is a floor and one for time a ceiling; without a goal there is no verdict."""
    assert standing(goal, seconds).reached is reached


def test_losses_are_told() -> None:
    """Whoever missed a goal is named; whoever has none is not."""
    loser, winner, other = (
        standing(Goal("time", 2), 3.0),
        standing(Goal("time", 2), 1.0),
        standing(None, 9.0),
    )
    result = Result(bench_of(), 10, [winner, loser, other], (0.0, 0.0))
    assert missed([result]) == [loser]


def test_a_contender_that_fails_ends_the_bench() -> None:
    """A figure is never made of the turns that happened to work."""
    with pytest.raises(RuntimeError, match="exit code 1"):
        measure(bench_of(Contender("broken", "bench.engine:no_such_function")), pairs=1)


def test_a_contender_has_to_stop_the_clock() -> None:
    """Without it there is nothing to compare."""
    with pytest.raises(RuntimeError, match=r"without Run\.stop"):
        _ = Run(10).measured
