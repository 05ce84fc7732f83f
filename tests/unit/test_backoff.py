"""Backoff: its bounds, its growth, and that no number of failures breaks it."""

from hypothesis import given
from hypothesis import strategies as st

from pythia_core import full_jitter


def test_the_longest_wait_grows_by_the_factor_up_to_the_cap() -> None:
    """Base, base times factor, and so on, until the cap."""
    longest = [full_jitter(n, 0.2, 4.0, 30.0, lambda: 1.0) for n in range(1, 7)]
    assert longest == [0.2, 0.8, 3.2, 12.8, 30.0, 30.0]


@given(
    st.integers(0, 10**9),
    st.floats(0, 10),
    st.floats(1, 10),
    st.floats(10, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_a_wait_lies_between_nothing_and_the_cap(
    failures: int, base: float, factor: float, cap: float, draw: float
) -> None:
    """Also after a weekend of failures, where the power would overflow."""
    assert 0 <= full_jitter(failures, base, factor, cap, lambda: draw) <= cap


def test_a_wait_is_drawn_evenly_from_zero() -> None:
    """Full jitter: half the draw is half the wait, and nothing is added."""
    assert full_jitter(2, 1.0, 2.0, 30.0, lambda: 0.5) == 1.0
    assert full_jitter(2, 1.0, 2.0, 30.0, lambda: 0.0) == 0.0
