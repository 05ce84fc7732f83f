"""The governor: each of its invariants, by hand and for any series of wishes."""

import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pythia_core import Recommendation, Snapshot
from pythia_metrics.governor import Governor
from pythia_metrics.policies import Drain
from tests.metrics.snapshots import queue, snapshot, snapshots, worker

BUSY = (queue(backlog=10_000),)


@attrs.define
class Wish:
    """A policy that says what it is told to say."""

    replicas: float = 1
    confidence: Any = "ok"
    cap: int | None = None
    inputs: dict[str, float] = attrs.field(factory=dict)

    def decide(self, shown: Snapshot, state: dict[str, Any]) -> Recommendation:
        return Recommendation(
            replicas=self.replicas,
            reason="wish",
            confidence=self.confidence,
            cap=self.cap,
            inputs=self.inputs,
        )


class Fleet:
    """A number of processes that does what a governor says at once."""

    def __init__(self, number: int, *, queues: Any = BUSY, **options: Any) -> None:
        self.wish = Wish()
        self.governor = Governor(self.wish, **options)
        self.state: dict[str, Any] = {}
        self.now, self.number, self.queues = 1000.0, number, queues
        self.answers: list[tuple[float, int, str]] = []

    def ask(self, replicas: float, confidence: str = "ok", **more: Any) -> int:
        """Ask once, now."""
        self.wish.replicas, self.wish.confidence = replicas, confidence
        shown = snapshot(
            self.now, self.number, queues=more.pop("queues", self.queues), **{"start_s": 1.0, **more}
        )
        answer = self.governor.decide(shown, self.state)
        assert answer.replicas == int(answer.replicas)
        self.number = int(answer.replicas)
        self.answers.append((self.now, self.number, answer.reason))
        return self.number

    def hold(self, replicas: float, seconds: float, **more: Any) -> int:
        """Ask the same every five seconds."""
        for _ in range(int(seconds / 5)):
            self.now += 5
            self.ask(replicas, **more)
        return self.number

    @property
    def why(self) -> str:
        """The last reason."""
        return self.answers[-1][2]


@given(shown=snapshots(), replicas=st.floats(allow_nan=True))
def test_g1_unknown_means_hold(shown: Snapshot, replicas: float) -> None:
    """Whatever was wanted before, nothing changes."""
    governor = Governor(Wish(replicas, "unknown"))
    state: dict[str, Any] = {}
    for _ in range(3):
        answer = governor.decide(shown, state)
        assert (answer.replicas, answer.confidence) == (shown.desired, "unknown")


def test_g1_an_unknown_moment_starts_the_history_anew() -> None:
    """What was not seen for a while may have been anything."""
    fleet = Fleet(8)
    fleet.hold(2, 200)
    fleet.ask(2, "unknown")
    assert fleet.hold(2, 250) == 8
    assert fleet.hold(2, 100) < 8


def test_g2_it_scales_in_only_after_the_window_and_by_half() -> None:
    """Five minutes of fewer, and then half a minute."""
    fleet = Fleet(8)
    assert fleet.hold(1, 295) == 8
    assert fleet.why == "hold_history"
    fleet.hold(1, 10)
    assert fleet.number == 4
    assert fleet.hold(1, 50) == 4
    assert fleet.hold(1, 15) == 2


def test_g2_one_wish_for_many_holds_for_the_window() -> None:
    """A burst that comes each four minutes is not answered by a start each four minutes."""
    fleet = Fleet(8)
    fleet.hold(1, 290)
    fleet.now += 5
    fleet.ask(8)
    assert fleet.hold(1, 295) == 8
    assert fleet.hold(1, 15) == 4


def test_g3_it_scales_out_at_once_but_not_without_bound() -> None:
    """Four more or twice as many, whichever is more, in fifteen seconds."""
    fleet = Fleet(1)
    assert fleet.ask(50) == 5
    assert fleet.why == "step_up"
    assert fleet.hold(50, 10) == 5
    assert fleet.hold(50, 5) == 10


def test_g4_it_waits_for_a_change_to_settle() -> None:
    """Two starts, or three rebalances if these take longer."""
    fleet = Fleet(20)
    assert fleet.ask(50) == 40
    assert fleet.hold(50, 15, start_s=10.0) == 40
    assert fleet.why == "hold_settling"
    assert fleet.hold(50, 5, start_s=10.0) == 50
    more = (queue(backlog=10_000, arrival_rate=99.0),)
    assert fleet.hold(60, 25, rebalance_s=10.0, queues=more) == 50
    assert fleet.hold(60, 5, rebalance_s=10.0, queues=more) == 60


def test_g5_nobody_is_added_to_those_that_are_stopped() -> None:
    """A brake or a full memory is not mended by more processes."""
    fleet = Fleet(2)
    workers = [worker(0), worker(1, throttled=True)]
    assert fleet.ask(8, workers=workers) == 2
    assert fleet.why == "veto_throttled"
    assert fleet.ask(8) > 2


def test_g6_one_at_a_time_until_the_limit_was_seen() -> None:
    """What a process could do is an estimate until one was busy."""
    fleet = Fleet(8, queues=(queue(),))
    fleet.hold(1, 300)
    assert fleet.hold(1, 5) == 7
    assert fleet.hold(1, 5) == 6
    seen = Fleet(8, queues=(queue(),))
    seen.ask(8, queues=BUSY)
    seen.hold(1, 305)
    assert seen.number == 4


def test_g7_what_does_not_help_is_not_repeated() -> None:
    """Twice as many that do the same wait for something else; for five minutes there are no more."""
    fleet = Fleet(2)
    assert fleet.ask(4, workers=[worker(n, rate=10.0) for n in range(2)]) == 4
    shared = [worker(n, rate=5.1) for n in range(4)]
    assert fleet.hold(8, 30, workers=shared) == 4
    assert fleet.why == "hold_unjudged"
    assert fleet.hold(8, 290, workers=shared) == 4
    assert fleet.why == "brake_no_gain"


def test_g7_more_arrivals_are_another_reason() -> None:
    """A flash crowd that grows is not held up by the judgement of its first minute."""
    fleet = Fleet(2)
    fleet.ask(4)
    assert fleet.hold(8, 20) == 4
    assert fleet.hold(8, 5, queues=(queue(backlog=10_000, arrival_rate=50.0),)) == 8


def test_g7_what_helps_goes_on() -> None:
    """Twice as many that do twice as much are followed by more."""
    fleet = Fleet(2)
    fleet.ask(4, workers=[worker(n, rate=10.0) for n in range(2)])
    fleet.hold(4, 60, workers=[worker(n, rate=10.0) for n in range(4)])
    assert fleet.hold(8, 60, workers=[worker(n, rate=10.0) for n in range(4)]) == 8


def test_g8_little_is_nothing_where_there_are_many() -> None:
    """5 % of 40 is not worth a start."""
    fleet = Fleet(40)
    assert fleet.ask(42) == 40
    assert fleet.why == "hold_tolerance"
    assert fleet.ask(43) == 43
    assert Fleet(4).ask(5) == 5


@pytest.mark.parametrize(("utilisation", "stays"), [(0.39, False), (0.4, True), (0.9, True), (0.91, False)])
def test_g9_a_number_that_does_well_stays(utilisation: float, stays: bool) -> None:
    """Planned for 0.7, it is not changed for every swing around that, unless it is out of bounds; and it is said why."""
    fleet = Fleet(4)
    fleet.wish.inputs = {"utilisation": utilisation}
    for wish in (5.0, 3.0):
        fleet.number = 4
        fleet.hold(wish, 700)
        assert (fleet.number == 4) == stays
        assert (fleet.why == "hold_band") == stays
    fleet.number, fleet.wish.cap = 4, 2
    assert fleet.hold(4.0, 1400) == 2


def test_g9_drain_says_how_much_is_used_and_what_is_left_counts() -> None:
    """At 28 a second four that do 10 each are used for 0.7; with a pile beside it they are not enough."""
    shown = snapshot(desired=4, queues=(queue(backlog=0, arrival_rate=28.0),), true_rate=10.0)
    piled = snapshot(desired=4, queues=(queue(backlog=6000, arrival_rate=28.0),), true_rate=10.0)
    calm, late = (Drain().decide(one, {}).inputs["utilisation"] for one in (shown, piled))
    assert calm == pytest.approx(0.7) and late > 0.9


wishes = st.lists(
    st.tuples(st.floats(0, 60), st.sampled_from(["ok", "ok", "ok", "unknown"]), st.integers(1, 40)),
    max_size=80,
)


@settings(max_examples=200)
@given(steps=wishes, begin=st.integers(1, 40), cap=st.none() | st.integers(1, 40))
def test_any_series_of_wishes_keeps_the_bounds(
    steps: list[tuple[float, str, int]], begin: int, cap: int | None
) -> None:
    """Never above or below what is allowed, never faster than G2 and G3 allow, and never in without a window of less."""
    fleet = Fleet(begin)
    fleet.wish.cap = cap
    wanted: list[tuple[float, float]] = []
    numbers = [(fleet.now, begin)]
    for replicas, confidence, seconds in steps:
        fleet.now += seconds
        before = fleet.number
        after = fleet.ask(replicas, confidence, min=1, max=40)
        if confidence == "unknown":
            wanted.clear()
        else:
            wanted.append((fleet.now, min(40, max(1, math.ceil(replicas - 1e-9)), cap or 40)))
        assert 1 <= after <= 40
        if confidence == "unknown":
            assert after == before
        if after < before:
            recent = [n for at, n in wanted if fleet.now - at <= 300]
            assert after >= max(recent)
            highest = max(n for at, n in numbers if fleet.now - at < 60 or n == before)
            assert after >= min(before - 1, highest - max(1, highest // 2)) - 1
        if after > before:
            base = min(n for at, n in [*numbers[-1:], *((a, n) for a, n in numbers if fleet.now - a < 15)])
            assert after <= max(base + 4, 2 * base)
        numbers.append((fleet.now, after))


@pytest.mark.parametrize("rate", [10.0, 35.0, 70.0])
def test_a_constant_load_is_held_at_a_constant_number(rate: float) -> None:
    """With the drain policy, measured rates that wobble by 10 % and a backlog that comes and goes: no flapping."""
    from pythia_metrics.named import KINDS

    governor, state = KINDS["drain"](), dict[str, Any]()
    number, now, numbers = 1, 0.0, []
    for turn in range(720):  # an hour
        now += 5
        wobble = 1 + 0.1 * math.sin(turn)
        left = int(20 * (1 + math.sin(turn / 7)))
        shown = snapshot(
            now,
            number,
            queues=(queue(backlog=left, arrival_rate=rate * wobble),),
            true_rate=10 / wobble,
            max=16,
        )
        number = int(governor.decide(shown, state).replicas)
        numbers.append(number)
    assert len(set(numbers[120:])) == 1
