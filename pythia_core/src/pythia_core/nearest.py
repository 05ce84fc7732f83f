"""Which known name was probably meant: every error about an unknown name ends with this, so that all read alike."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "nearest"]

FEW = 12  # names that still fit on a line


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most like ``name``, or None if none is; 0.6 is difflib's own measure of "like"."""
    found = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return how an error goes on after naming what is unknown: the nearest known name, and all if they are few.

    Example:
        >>> did_you_mean("bach_size", ["batch_size", "order"])
        'did you mean batch_size? Known: batch_size, order'
    """
    names = sorted(known)
    guess = nearest(name, names)
    if guess and len(names) > FEW:
        return f"did you mean {guess}?"
    everything = f"Known: {', '.join(names)}" if names else "There are none"
    return f"did you mean {guess}? {everything}" if guess else everything[0].lower() + everything[1:]
