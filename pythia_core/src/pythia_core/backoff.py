"""The one backoff function: everything that tries again waits by it, so that no two places disagree."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["full_jitter"]


def full_jitter(failures: int, base: float, factor: float, cap: float, random: Callable[[], float]) -> float:
    """Return how long to wait after so many failures in a row, in seconds.

    Uniform in ``[0, min(cap, base * factor ** (failures - 1))]``: "full jitter" of "Exponential Backoff And Jitter"
    (AWS Architecture Blog, 2015), which spreads the attempts of many workers best.

    Args:
        failures: failures so far, from 1.
        base: seconds, the longest wait after the first failure.
        factor: growth of the longest wait with each failure.
        cap: seconds, the longest wait of all.
        random: returns a float in ``[0, 1)``; an argument so that tests decide.
    """
    try:
        longest = min(cap, base * factor ** max(failures - 1, 0))
    except OverflowError:  # a broker down for a weekend: 4.0 ** 512 is past the largest float
        longest = cap
    return longest * random()
