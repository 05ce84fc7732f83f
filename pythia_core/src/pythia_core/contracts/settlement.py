"""What passes between engine and subscription: chunks of messages one way, settlements and refusals the other.

The four verbs are KIP-932's: done, release (give back, not failed), reject (never deliver again), renew (still at work).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import attrs

from pythia_core.contracts.message import Message, Partition, Position


@attrs.frozen
class Assignment:
    """One span of ownership of a partition. The broker's fence: a settlement names the assignment it belongs to.

    Args:
        id: the subscription's own name of it, new with every assignment (a generation, a connection's number).
        position: the next position to be read, or None where there is none.
        note: the text found beside the committed position, as it was settled there, or None. Hand over whatever is there:
            the engine believes only a text of its own about exactly this ``position``.
        reset: whether ``position`` is one that nobody has settled: nothing was, or what was is not there any more. The
            engine counts it; to say what was passed over is the source's part.
    """

    id: Hashable
    position: Position | None = None
    note: str | None = None
    reset: bool = False


@attrs.frozen
class Chunk:
    """Messages of one partition, in its order.

    Args:
        partition: where they were read.
        messages: may be empty, when only the position moved (compaction, transaction markers).
        position: the next position to read after them; None where acknowledgement is individual.
    """

    partition: Partition
    messages: Sequence[Message[Any]]
    position: Position | None = None


@attrs.frozen
class Settlement:
    """What became of messages of one partition, under one assignment.

    Args:
        partition: where they were read.
        assignment: the id of the assignment they were read under.
        through: the next position to read: everything before it is done. None leaves the committed position. A source
            that acknowledges ``both`` ways gets the position of the last message of the done prefix instead.
        beyond: positions done, each once: all of them where acknowledgement is individual, those past ``through`` for both.
        released: positions to give back as not failed.
        rejected: positions never to be delivered again; done where the broker keeps no dead letters.
        renewed: positions whose work goes on: extend their lease.
        note: ASCII text of up to 4,096 characters to keep beside the committed position, in one step with it, until the
            next settlement replaces it; None clears it. Only where :attr:`Capabilities.notes` says that it is kept.
            ``through`` is then always given, and may be the position that is committed already: the note alone has
            changed, and has to be written all the same.
    """

    partition: Partition
    assignment: Hashable
    through: Position | None = None
    beyond: tuple[Position, ...] = ()
    released: tuple[Position, ...] = ()
    rejected: tuple[Position, ...] = ()
    renewed: tuple[Position, ...] = ()
    note: str | None = None


@attrs.frozen
class Refused:
    """What of a settlement was refused because it is no longer ours.

    Args:
        partition: where it was read.
        assignment: the id of the assignment it was settled under.
        positions: what was refused; None means everything under that assignment.
    """

    partition: Partition
    assignment: Hashable
    positions: tuple[Position, ...] | None = None


Refusals = Sequence[Refused]
