"""Who is to have which partitions: a pure function, so that it can be tested by itself and replaced."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from pythia_core.contracts.message import Partition

Reader = TypeVar("Reader")


def balance(
    partitions: Collection[Partition], held: Mapping[Reader, set[Partition]], *, move: bool
) -> dict[Reader, set[Partition]]:
    """Return the partitions each reader is to have: all of them, none twice, and as few moved as can be.

    Args:
        partitions: all there are.
        held: what each reader has now.
        move: take partitions from readers that have more than their share; otherwise only free ones are given out.
    """
    target = {reader: set(mine) for reader, mine in held.items()}
    if move and held:
        share, extra = divmod(len(partitions), len(held))
        for place, reader in enumerate(sorted(held, key=lambda reader: -len(held[reader]))):
            target[reader] = set(sorted(held[reader], key=str)[: share + (place < extra)])
    taken = {partition for mine in target.values() for partition in mine}
    for partition in partitions:
        if target and partition not in taken:
            min(target.values(), key=len).add(partition)
    return target
