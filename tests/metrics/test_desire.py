"""What is published: an error where the backlog is unknown, the present number where the rate is, 0 only where nothing is."""

from typing import Any

import pytest
from hypothesis import given

from pythia_core import Recommendation, Scaler, ScalingPolicy, Snapshot
from pythia_metrics.desire import Desire, desire
from pythia_metrics.named import KINDS
from pythia_metrics.policies import Busy, Drain
from pythia_metrics.publishing import Remembering, ungoverned
from tests.metrics.snapshots import queue, snapshot, snapshots, worker


def published(shown: Snapshot, policy: ScalingPolicy | None = None, *, pods_known: bool = True) -> Desire:
    """Ask a policy as ``serve`` does, and return what it would publish."""
    remembering = Remembering(policy or Drain())
    decision = Scaler(remembering, "drain", shown.min, shown.max).decide(shown)
    assert remembering.said is not None
    return desire("orders", shown, decision, remembering.said, pods_known=pods_known)


def pods(number: int, **more: Any) -> Snapshot:
    """Return a snapshot of a deployment that may sleep, with one queue."""
    left = {"backlog": 0, "in_flight": 0, **more.pop("left", {})}
    said = {"min": 0, "max": 10, "desired": number, "workers": [worker(n) for n in range(number)], **more}
    return snapshot(queues=(queue(**left),), **said)


def test_it_is_what_the_policy_says_without_a_governor() -> None:
    """Arrivals of 10 a second at 70 % of 10, and 600 within a minute, are 2.4: three, at once."""
    said = published(pods(1, left={"backlog": 600}, start_s=0.0))
    assert (said.desired, said.active, said.confidence) == (3, True, "ok")
    assert said.raw == pytest.approx((10 / 0.7 + 10) / 10) and said.need_rate == pytest.approx(10 / 0.7 + 10)
    assert (said.backlog, said.in_flight, said.true_rate, said.worker) == (600, 0, 10.0, "orders")
    assert isinstance(ungoverned(KINDS["drain"]()), Drain)


@pytest.mark.parametrize("policy", [Drain(), Busy()])
@pytest.mark.parametrize("number", [0, 3])
def test_d1_nothing_is_published_while_the_backlog_is_unknown(policy: ScalingPolicy, number: int) -> None:
    """Whatever else is known: a number would be taken for one."""
    said = published(pods(number, left={"backlog": None, "arrival_rate": None, "in_flight": None}), policy)
    assert (said.desired, said.active, said.confidence) == (None, None, "unknown")


@pytest.mark.parametrize(("number", "wanted"), [(0, 1), (1, 1), (3, 3)])
def test_d2_a_rate_that_is_unknown_holds_the_present_number(number: int, wanted: int) -> None:
    """One at least, since there is something to do, and by it the rate is learnt."""
    said = published(pods(number, left={"backlog": 50}, true_rate=None))
    assert (said.desired, said.active, said.confidence) == (wanted, True, "stale")
    hinted = published(
        pods(number, left={"backlog": 600}, true_rate=None, start_s=0.0), Drain(rate_hint=10.0)
    )
    assert (hinted.desired, hinted.confidence) == (3, "ok")


def test_d2_a_number_that_is_unknown_is_not_held() -> None:
    """Nobody could say yet which pods there are: 1 might scale in."""
    said = published(pods(0, left={"backlog": 50}, true_rate=None), pods_known=False)
    assert said.desired is None


SLEEPY = {"arrival_rate": 0.0}


@pytest.mark.parametrize(
    ("left", "number", "wanted"),
    [
        ({**SLEEPY}, 2, 0),
        ({**SLEEPY, "in_flight": 1}, 2, 1),
        ({**SLEEPY, "in_flight": None}, 2, 1),
        ({**SLEEPY, "in_flight": None}, 0, 0),
        ({"arrival_rate": 3.0}, 2, 1),
        ({"arrival_rate": None}, 2, 2),
        ({"arrival_rate": None}, 0, 0),
        ({**SLEEPY, "backlog": 1}, 0, 1),
        ({**SLEEPY, "in_flight": 1}, 0, 1),
    ],
)
def test_d3_it_sleeps_only_where_nothing_is_to_be_done(
    left: dict[str, Any], number: int, wanted: int
) -> None:
    """Left, in flight, on its way, or unknown of any that are there: each keeps it awake."""
    said = published(pods(number, left=left))
    assert (said.desired, said.active) == (wanted, wanted > 0)


def test_d3_a_bound_or_a_floor_keeps_it_awake() -> None:
    """Somebody wants some to be there, whether there is work or not."""

    class Floor:
        def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
            return Recommendation(replicas=1, reason="schedule", floor=4)

    assert published(pods(2, left=SLEEPY, min=2)).desired == 2
    assert published(pods(2, left=SLEEPY), Floor()).desired == 4


def test_d4_a_known_part_wakes_and_scales_out() -> None:
    """Two queues of which one is unknown: 600 in the other want three of none and of two, and hold five."""

    def half(number: int, **more: Any) -> Desire:
        shown = pods(number, start_s=0.0, **more)
        known = queue(backlog=600, arrival_rate=10.0)
        unknown = queue(backlog=None, arrival_rate=0.0)
        return published(snapshot_with(shown, known, unknown))

    assert half(2).desired == 3
    assert half(0).desired == 3
    assert half(0, true_rate=None).desired == 1
    assert half(5).desired is None


def snapshot_with(shown: Snapshot, *queues: Any) -> Snapshot:
    """Return a snapshot with other queues."""
    import attrs

    return attrs.evolve(shown, queues=queues)


@given(snapshots())
def test_what_is_published_makes_sense(shown: Snapshot) -> None:
    """Within the bounds, active exactly if it is not 0, and nothing exactly if it is unknown."""
    said = published(shown)
    assert (said.desired is None) == (said.confidence == "unknown") == (said.active is None)
    if said.desired is not None:
        assert shown.min <= said.desired <= shown.max
        assert said.active == (said.desired > 0)
