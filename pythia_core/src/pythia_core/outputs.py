"""How every sink goes through the outputs of one write, so that order per key has one meaning in all of them.

It stands apart from the contract of a sink, which says what has to hold, because it is how it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from pythia_core.contracts.sink import Output, cannot_delay
from pythia_core.errors import WriteError

__all__ = ["cannot_delay", "held_back", "milliseconds", "prepare_outputs"]

Entry = TypeVar("Entry")


def prepare_outputs(
    outputs: Sequence[Output], prepare: Callable[[int, Output], Entry], errors: dict[int, WriteError]
) -> list[Entry]:
    """Prepare outputs for what is sent; once one fails, later ones of its key fail too, since they would overtake it.

    Args:
        outputs: of one write.
        prepare: called with an index and its output; what it returns is kept, and WriteError says why it cannot be sent.
        errors: takes the error of each index that is not to be sent.
    """
    entries: list[Entry] = []
    failed: set[Hashable] = set()
    for index, output in enumerate(outputs):
        try:
            if output.key in failed:
                raise held_back(output.key)
            entries.append(prepare(index, output))
        except WriteError as error:
            errors[index] = error
            if output.key is not None:
                failed.add(output.key)
    return entries


def held_back(key: Hashable) -> WriteError:
    """Return why an output is not written whose key has an earlier one that was not."""
    return WriteError(f"an earlier output of key {key!r} was not written")


def milliseconds(output: Output, *, most: int) -> int:
    """Return for how many milliseconds an output is to be held back, rounded up; 0 if not at all.

    Args:
        output: which.
        most: what the broker can bear.

    Raises:
        WriteError: for good, if its delay is no time, or too long.
    """
    delay = output.delay
    if delay is None:
        return 0
    if not isinstance(delay, int | float) or not 0 <= delay * 1000 <= most:
        raise WriteError(
            f"delay is {delay!r}: it is a number of seconds, from 0 to {most // 1000:,}", permanent=True
        )
    return math.ceil(delay * 1000)
