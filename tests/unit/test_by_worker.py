"""The policy that follows the worker's own word: one answer, one process."""

from typing import Any

import pytest

from pythia_core import Opinion, Snapshot
from pythia_core.by_worker import ByWorker


def seen(*opinions: tuple[str, float, int], desired: int = 3, ready: int = 3) -> Snapshot:
    """Return a snapshot with these answers: whose, when, and what."""
    return Snapshot(
        now=100.0,
        wall=0.0,
        worker="w",
        window_s=15,
        seq=1,
        replicas=desired,
        ready=ready,
        desired=desired,
        min=1,
        max=8,
        opinions=tuple(Opinion(worker=name, at=at, change=change) for name, at, change in opinions),
    )


@pytest.mark.parametrize(("change", "replicas"), [(1, 4), (0, 3), (-1, 2)])
def test_an_answer_moves_the_number_by_one_and_only_once(change: int, replicas: int) -> None:
    """The same answer is not followed again; what was not said anew means that nothing changes."""
    state: dict[str, Any] = {}
    said = ByWorker().decide(seen(("a", 1.0, change)), state)
    assert (said.replicas, said.confidence) == (replicas, "ok")
    again = ByWorker().decide(seen(("a", 1.0, change)), state)
    assert (again.replicas, again.reason, again.confidence) == (3, "hold_nothing_said", "unknown")


def test_nobody_asked_changes_nothing() -> None:
    """Before the first answer nothing is known."""
    assert ByWorker().decide(seen(), {}).confidence == "unknown"


def test_one_that_wants_more_is_enough_and_for_fewer_all_have_to_agree() -> None:
    """A worker in need is not outvoted by idle ones."""
    assert ByWorker().decide(seen(("a", 1.0, -1), ("b", 1.0, 1)), {}).replicas == 4
    assert ByWorker().decide(seen(("a", 1.0, -1), ("b", 1.0, 0)), {}).replicas == 3
    assert ByWorker().decide(seen(("a", 1.0, -1), ("b", 1.0, -1)), {}).replicas == 2


def test_an_old_wish_for_more_is_not_repeated_by_anothers_answer() -> None:
    """What was followed once has been followed, though it is the latest of its worker."""
    state: dict[str, Any] = {}
    assert ByWorker().decide(seen(("a", 1.0, 1)), state).replicas == 4
    assert ByWorker().decide(seen(("a", 1.0, 1), ("b", 2.0, 0)), state).replicas == 3


def test_no_other_is_started_before_the_last_one_is_at_work() -> None:
    """A start costs what the worker measures; without this each start would ask for the next."""
    said = ByWorker().decide(seen(("a", 1.0, 1), ready=2), {})
    assert (said.replicas, said.reason) == (3, "hold_starting")


def test_the_last_one_stays() -> None:
    """None at all would never ask again."""
    assert ByWorker().decide(seen(("a", 1.0, -1), desired=1, ready=1), {}).replicas == 1
