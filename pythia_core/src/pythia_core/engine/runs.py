"""Several messages of one key that a batch has taken together: they count as one, so something must stand for them.

It stands apart from the scheduler because only batches make runs; a worker that takes single messages never meets one.

The members leave in any order (a message that was done, while the output of the one before it is still on its way), so
none of them can be the head of the key. A :class:`Run` is: what waits for the key is chained behind it, and each member
points at it. When the last member has left, the key closes or passes on.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pythia_core.contracts.message import Message


class Run(Message[Any]):
    """Stands in for its members, as the head of their key.

    Args:
        lane: the key.
        following: the message that waits behind them, if any.
        members: how many they are.
    """

    __slots__ = ("_members",)

    def __init__(self, lane: Hashable, following: Message[Any] | None, members: int) -> None:
        self._lane = lane
        self._next = following
        self._members = members

    def left(self) -> bool:
        """Take note that a member has left; return True if it was the last."""
        self._members -= 1
        return self._members == 0

    def put_behind(self, member: Message[Any]) -> None:
        """Let a member be the first of those who wait; the caller then says that it has left."""
        lanes = member._ledger.lanes
        member._next, self._next = self._next, member
        if lanes[self._lane] is self:
            lanes[self._lane] = member


def runs_alone(message: Message[Any]) -> bool:
    """Return True for a message that has failed before, or was in a batch that ran too long."""
    return hasattr(message, "_failure")


def take_run(head: Message[Any], most: int) -> list[Message[Any]]:
    """Take the head of a key with those behind it, at most ``most`` and none that has failed before."""
    lanes, lane = head._ledger.lanes, head._lane
    members, last, tail = [head], head, lanes[lane]
    while last is not tail and len(members) < most:
        following = last._next
        assert following is not None
        if runs_alone(following):
            break
        members.append(following)
        last = following
    if len(members) > 1:
        run = Run(lane, None if last is tail else last._next, len(members))
        if last is tail:
            lanes[lane] = run
        for message in members:
            message._next = run
    return members


def head_of(message: Message[Any]) -> Message[Any]:
    """Return the run that a message is a member of, or the message itself."""
    run = getattr(message, "_next", None)
    return run if type(run) is Run else message
