"""The garbage collector is set up for a worker's own process and put back afterwards."""

import gc

from pythia_core.collector import tuned


def test_the_collector_is_tuned_and_put_back() -> None:
    """Within, the youngest generation is collected after so many objects; afterwards all is as before."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with tuned(12_345):
        assert gc.get_threshold() == (12_345, *before[1:])
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_zero_leaves_the_collector_alone() -> None:
    """A threshold of 0 changes nothing."""
    before = gc.get_threshold()
    with tuned(0):
        assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
