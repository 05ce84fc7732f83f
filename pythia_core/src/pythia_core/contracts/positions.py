"""How far a group has got, as a person sees it and may change it: shown, and moved back or forward between two runs.

It stands apart from :mod:`~pythia_core.contracts.source`, which is about what an engine needs while it runs: no engine ever
moves a position but by settling messages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

import attrs

SeekKind = Literal["earliest", "latest", "position", "time", "by"]


@attrs.frozen
class Seek:
    """Where a position is to go.

    Args:
        kind: ``earliest`` and ``latest`` of what the broker has, a ``position`` by name, the first message since a
            ``time``, or ``by`` so many messages from where it is.
        position: as the broker itself counts: Kafka's next offset, Redis's last delivered id.
        seconds: a time, since the epoch.
        messages: how many; back if negative.
    """

    kind: SeekKind
    position: str = attrs.field(default="", kw_only=True)
    seconds: float = attrs.field(default=0.0, kw_only=True)
    messages: int = attrs.field(default=0, kw_only=True)


@attrs.frozen(kw_only=True)
class Mark:
    """How far a group has got in one partition. None is unknown, or not there.

    Args:
        position: where it goes on, as the broker writes it; None if it has settled nothing yet.
        first: where what the broker still has begins.
        end: where it ends.
        waiting: messages behind the position.
        at_least: True if ``waiting`` is only a lower bound.
        pending: messages delivered and not settled, where they are kept beside the position.
        oldest: seconds since the epoch of the oldest message that waits.
    """

    position: str | None = None
    first: str | None = None
    end: str | None = None
    waiting: int | None = None
    at_least: bool = False
    pending: int | None = None
    oldest: float | None = None


@attrs.frozen
class Standing:
    """How far a group has got.

    Args:
        marks: by partition, as the broker calls it.
        members: who reads as the group now, each in a few words; nobody moves a position under a member's feet.
        notes: what a person should know before a position is moved, in whole sentences.
    """

    marks: Mapping[str, Mark]
    members: Sequence[str] = ()
    notes: Sequence[str] = ()


@attrs.frozen
class Move:
    """What a position would become.

    Args:
        to: as the broker writes it.
        again: how many messages would be read again; negative, how many would never be read.
        at_least: True if it is that many or more.
    """

    to: str
    again: int
    at_least: bool = False


class Positions(ABC):
    """The positions of a source's group, on a connection that is kept open while it is asked.

    An implementation promises that a move happens as a whole partition or not at all, that it is refused while the group
    has members (unless forced, where the broker bears it), and that ``find`` changes nothing.

    Example:
        Have a group read again what came in the last hour::

            async with source.positions() as positions:
                standing = await positions.standing()
                moves = await positions.find(Seek("time", seconds=time.time() - 3600), standing.marks)
                await positions.move({partition: move.to for partition, move in moves.items()})
    """

    @abstractmethod
    async def standing(self) -> Standing:
        """Return how far the group has got. To look makes no group."""

    @abstractmethod
    async def find(self, seek: Seek, partitions: Collection[str]) -> Mapping[str, Move]:
        """Return where these partitions of the standing would go, and what that would mean. Changes nothing.

        Raises:
            ConfigError: if the broker cannot go there.
        """

    @abstractmethod
    async def move(self, to: Mapping[str, str], *, force: bool = False) -> None:
        """Move positions. A group that is not there is made with them.

        Args:
            to: the position of each partition, as ``find`` has told it.
            force: also while somebody reads, where the broker allows it.

        Raises:
            ConfigError: if it is refused, because somebody reads; nothing was moved.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
