"""The table of mutants itself: it must keep up with the sources, and name every part of the design."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.mutant import Laboratory, Mutant
from tests.mutants.table import GUARANTEES, MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.guarantee}-{mutant.test}")
def test_an_entry_is_about_what_is_there(mutant: Mutant) -> None:
    """Its passage occurs once in the sources, and its test exists."""
    assert mutant.fault() is None


def test_every_guarantee_has_a_mutant() -> None:
    """What the design promises is listed, and nothing else is."""
    assert {mutant.guarantee for mutant in MUTANTS} == set(GUARANTEES)


def test_a_mutant_is_caught_and_a_harmless_change_is_not(tmp_path: Path) -> None:
    """So that the verdicts can be believed; the copy is whole again afterwards."""
    laboratory = Laboratory(tmp_path)
    test = "tests/unit/test_backoff.py"
    harmful = Mutant("none", "pythia_core/backoff.py", "    return ", "    return -1.0 - ", test)
    harmless = Mutant("none", "pythia_core/backoff.py", "    return ", "    return 0.0 + ", test)
    assert laboratory.try_out(harmful)[0] == "caught"
    assert laboratory.try_out(harmless)[0] == "survived"
