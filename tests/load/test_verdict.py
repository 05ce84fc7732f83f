"""What attempts come to: every loss, repetition and breach of order is found, and nothing else is."""

import math

import pytest

from pythia_core.testing.recording import Attempt
from pythia_core.testing.verdict import LoadResults, judge


def attempt(number: int, started: float, ended: float, *, good: bool = True) -> Attempt:
    """Make an attempt at a message that was to be sent at its number's second."""
    return Attempt(number, good, float(number), started, ended)


def verdict(*attempts: Attempt, sent: int = 4, keys: int | None = 2) -> LoadResults:
    """Judge the attempts of one process."""
    return judge(0.0, sent, range(sent), [attempts], keys=keys)


FINE = (attempt(0, 1, 2), attempt(1, 1, 2), attempt(2, 3, 4), attempt(3, 4, 6))


def test_a_run_without_fault_is_proven() -> None:
    """Each message done once, in order, with figures that can be worked out by hand."""
    found = verdict(*FINE)
    assert found.proven
    assert (found.sent, found.done, found.lost, found.duplicates, found.order_violations) == (4, 4, 0, 0, 0)
    assert found.latencies == [1, 2, 2, 3]
    assert (found.avg_latency, found.avg_throughput, found.error_rate) == (2.0, 4 / 6, 0.0)


def test_what_was_never_attempted_is_lost() -> None:
    """A message that the broker confirmed and no worker saw; one that was not confirmed is nobody's loss."""
    found = verdict(*FINE[:3])
    assert (found.lost, found.failed, found.proven) == (1, 0, False)
    assert judge(0.0, 4, range(3), [FINE[:3]], keys=2).proven


def test_what_only_failed_is_not_lost() -> None:
    """It was seen; its dead letter or its next attempt has it. Both attempts count in the rate of errors."""
    bad = [attempt(3, 4, 5, good=False), attempt(3, 6, 7, good=False)]
    found = verdict(*FINE[:3], *bad)
    assert (found.lost, found.failed, found.done, found.proven) == (0, 1, 3, False)
    assert found.error_rate == 2 / 5


def test_what_was_done_twice_is_a_duplicate() -> None:
    """Also by two processes; a failure before is none. The latency is that of the first time."""
    found = judge(0.0, 4, range(4), [FINE, [attempt(3, 8, 9)]], keys=2)
    assert (found.duplicates, found.done, found.proven) == (1, 4, False)
    assert found.latencies == [1, 2, 2, 3]
    assert verdict(attempt(0, 0, 0.5, good=False), *FINE).duplicates == 0
    assert found.by_worker == (4, 1)


@pytest.mark.parametrize(
    ("attempts", "violations"),
    [
        ([*FINE[:2], attempt(2, 1.5, 4), FINE[3]], 1),  # began while 0 of the same key was at work
        ([*FINE[:2], attempt(2, 0, 0.5), FINE[3]], 1),  # was done before it
        (
            [attempt(0, 0, 0.5, good=False), attempt(2, 0.6, 0.8), *FINE],
            1,
        ),  # overtook it while it was retried
        ([*FINE, attempt(0, 7, 8), attempt(2, 8, 9)], 0),  # a rewind repeats in order
        ([attempt(0, 1, 2, good=False), *FINE[1:]], 0),  # given up before 2 began
    ],
)
def test_order_is_that_of_each_key(attempts: list[Attempt], violations: int) -> None:
    """A message may begin only after the one before it of its key was processed or given up; a repetition may come later."""
    assert verdict(*attempts).order_violations == violations
    assert verdict(*attempts, keys=None).order_violations is None


def test_percentiles_are_by_nearest_rank() -> None:
    """Of a hundred latencies from 1 to 100 the 99th is 99, and of none it is infinite."""
    found = judge(0.0, 100, range(100), [[attempt(n, n, 2 * n + 1) for n in range(100)]], keys=None)
    assert (found.latency(50), found.latency(99), found.latency(99.9), found.latency(100)) == (
        50,
        99,
        100,
        100,
    )
    nothing = verdict()
    assert (nothing.latency(50), nothing.avg_latency, nothing.avg_throughput) == (math.inf, math.inf, 0.0)
    assert nothing.error_rate == 1.0
    assert nothing.as_dict()["percentiles"] == {"50": None, "90": None, "99": None, "99.9": None}
    with pytest.raises(ValueError, match="must be above 0"):
        found.latency(0)
