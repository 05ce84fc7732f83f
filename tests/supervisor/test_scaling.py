"""The scaling loop keeps to its bounds and changes nothing when nothing is known."""

import logging
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core.contracts import Recommendation, Snapshot
from pythia_core.supervisor.scaling import KEPT, Scaler
from tests.supervisor.running import run


@attrs.define
class Says:
    """A policy that says what it was made to say."""

    answer: Recommendation | None

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        if self.answer is None:
            raise RuntimeError("no idea")
        state["asked"] = state.get("asked", 0) + 1
        return self.answer


def snapshot(now: float = 0.0, desired: int = 3) -> Snapshot:
    """Return a snapshot of nothing in particular."""
    return Snapshot(
        now=now, wall=now, worker="w", window_s=15, seq=1, replicas=3, ready=3, desired=desired, min=1, max=8
    )


@given(
    replicas=st.floats(allow_nan=True, allow_infinity=True),
    confidence=st.sampled_from(["ok", "stale", "unknown"]),
    bounds=st.tuples(st.integers(1, 9), st.integers(1, 9)).map(sorted),
    cap=st.none() | st.integers(-3, 20),
    floor=st.none() | st.integers(-3, 20),
    desired=st.integers(1, 9),
)
def test_the_answer_lies_within_the_bounds(
    replicas: float, confidence: Any, bounds: list[int], cap: int | None, floor: int | None, desired: int
) -> None:
    """Whatever a policy says, an operator's --min and --max hold."""
    said = Recommendation(replicas=replicas, reason="any", confidence=confidence, cap=cap, floor=floor)
    decision = Scaler(Says(said), "says", *bounds).decide(snapshot(desired=desired))
    assert bounds[0] <= decision.after <= bounds[1]
    if math.isfinite(replicas) and confidence != "unknown" and cap is None and floor is None:
        assert decision.after == max(bounds[0], min(bounds[1], math.ceil(replicas - 1e-9)))


@pytest.mark.parametrize(
    "answer",
    [
        Recommendation(replicas=8, reason="?", confidence="unknown"),
        None,
        Recommendation(replicas=math.nan, reason="?"),
    ],
    ids=["unknown", "raises", "no number"],
)
def test_what_is_not_known_changes_nothing(
    answer: Recommendation | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is started or stopped by a guess, and a policy that raises is said once."""
    scaler = Scaler(Says(answer), "says", 1, 8)
    with caplog.at_level(logging.ERROR, "pythia.scaling"):
        assert [scaler.decide(snapshot(now)).after for now in (0.0, 5.0)] == [3, 3]
    assert len(caplog.records) == (answer is None)
    assert scaler.failures == (2 if answer is None else 0)


def test_every_decision_is_kept_with_its_reason() -> None:
    """So that somebody who asks in the morning learns why there were eight at night; the oldest go first."""
    scaler = Scaler(Says(Recommendation(replicas=4.2, reason="lag", inputs={"lag": 7.0})), "says", 1, 8)
    for second in range(KEPT + 1):
        scaler.decide(snapshot(float(second)))
    assert len(scaler.decisions) == KEPT
    last = scaler.decisions[-1]
    assert (last.before, last.after, last.raw, last.reason, last.inputs) == (3, 5, 4.2, "lag", {"lag": 7.0})
    assert scaler.last_up == KEPT and scaler.last_down is None


def test_a_decision_is_due_after_each_interval() -> None:
    """The first comes when there has been something to see."""
    scaler = Scaler(Says(Recommendation(replicas=1, reason="one")), "says", 1, 8, interval=5.0)
    assert not scaler.due(100.0)
    assert scaler.due(105.0)
    scaler.decide(snapshot(105.0))
    assert not scaler.due(109.0)


def test_a_policy_needs_a_most(tmp_path: Path) -> None:
    """A policy without an upper bound is a way to fill a machine."""
    with run(tmp_path, "--policy", "drain") as running:
        assert running.ends() == 2
        assert "need --max" in running.output()


def test_an_unknown_policy_is_said_with_those_there_are(tmp_path: Path) -> None:
    """Before anything is started."""
    with run(tmp_path, "--policy", "magic", "--max", "3") as running:
        assert running.ends() == 1
        assert "there is no scaling policy 'magic'" in running.output()
        assert not running.events()
