"""Chaos for some seconds, as every change has to stand it; `nox -s chaos` is the same for ten minutes."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import report
from tests.chaos.run import Plan, run


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.parametrize("seed", [3])
def test_every_promise_is_kept(tmp_path: Path, seed: int) -> None:
    """Nothing is lost, nothing is done twice that no fault explains, and nothing stands still."""
    verdict = run(Plan(broker="redis", seconds=15, seed=seed), tmp_path)
    assert verdict.holds, report(verdict)
    figures = verdict.figures
    assert figures["owed"] > 500
    assert figures["settled"] >= figures["owed"], "the observer saw all of it"
    assert figures["faults"] >= 3
    assert figures["stops"] >= 2


@pytest.mark.slow
@pytest.mark.redis
def test_a_promise_that_is_broken_is_found(tmp_path: Path) -> None:
    """A worker that acknowledges before its work is condemned, though it may have had the luck to lose nothing."""
    verdict = run(Plan(broker="redis", seconds=8, seed=5, worker="tests.chaos.careless:Careless"), tmp_path)
    assert "I5" in {violation.invariant for violation in verdict.violations}, report(verdict)
