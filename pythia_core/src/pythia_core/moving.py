"""Moves how far a worker's group has got, by a plan that is looked at before it is carried out: ``pythia offsets``.

It stands apart from the command, which asks and prints, so that a program can do the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import anyio
import attrs

from pythia_core.contracts import Move, Positions, Seek, Source, Standing
from pythia_core.errors import ConfigError, PythiaError

__all__ = ["Plan", "carry_out", "look", "make_plan"]

SECONDS = 30.0  # for all that is asked at once; a cluster's coordinator may have to be found first


@attrs.frozen
class Plan:
    """What is to become of a group's positions.

    Args:
        before: how far it has got.
        moves: by partition; those that stay where they are have none.
    """

    before: Standing
    moves: Mapping[str, Move]


async def look(source: Source) -> Standing:
    """Return how far a resolved source's group has got.

    Raises:
        ConfigError: if the broker keeps no positions, or cannot be asked.
    """
    async with _asking(source) as positions:
        return await positions.standing()


async def make_plan(
    source: Source, seek: Seek, *, partitions: Collection[str] = (), back_only: bool = False
) -> Plan:
    """Return what a group's positions would become, and change nothing.

    Args:
        source: resolved.
        seek: where to.
        partitions: only of these; of all if empty.
        back_only: leave out what would go forward, and so never read a message.

    Raises:
        ConfigError: if there is no such partition, or the broker cannot go there or be asked.
    """
    async with _asking(source) as positions:
        before = await positions.standing()
        if unknown := [name for name in partitions if name not in before.marks]:
            known = ", ".join(before.marks) or "none"
            raise ConfigError(f"{source.name} has no partition {', '.join(unknown)}; there are: {known}")
        found = await positions.find(seek, partitions or before.marks)
    moves = {
        name: move
        for name, move in found.items()
        if move.to != before.marks[name].position and not (back_only and move.again <= 0)
    }
    return Plan(before, moves)


async def carry_out(source: Source, plan: Plan, *, force: bool = False) -> Standing:
    """Move the positions of a plan, and return how far the group has got then.

    Raises:
        ConfigError: if the broker refuses, or cannot be asked.
    """
    async with _asking(source) as positions:
        await positions.move({name: move.to for name, move in plan.moves.items()}, force=force)
        return await positions.standing()


@asynccontextmanager
async def _asking(source: Source) -> AsyncIterator[Positions]:
    """Open the positions of a source; whatever goes wrong is told in one line, and in time."""
    try:
        with anyio.fail_after(SECONDS):
            async with source.positions() as positions:
                yield positions
    except PythiaError as error:
        raise ConfigError(str(error)) from error
    except TimeoutError:
        raise ConfigError(f"{source.name} did not answer within {SECONDS:g} s") from None
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ConfigError(f"{source.name} cannot be asked: {text}") from error
