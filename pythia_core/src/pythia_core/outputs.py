"""How every sink goes through the outputs of one write, so that order per key has one meaning in all of them.

It stands apart from the contract of a sink, which says what has to hold, because it is how it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from pythia_core.contracts.sink import Output
from pythia_core.errors import WriteError

__all__ = ["held_back", "prepare_outputs"]

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
