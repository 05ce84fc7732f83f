"""What a channel has been told of its deliveries: each tag once, those up to one at once, and only when it was written.

R1. A tag is acknowledged, rejected or given back once: a second time, or a tag that is not out, and the server ends the
    channel.
R2. ``multiple`` names a tag that is still out: of another one old servers take all that is out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import aiormq
from aiormq import spec
from aiormq.abc import ChannelFrame

from pythia_rabbitmq.connection import ask

FRAMES_AT_ONCE: Final = 1000  # acknowledgements in one write

Frame = spec.Basic.Ack | spec.Basic.Nack | spec.Basic.Reject


class Receipts:
    """Settles the deliveries of one channel.

    Args:
        channel: on which they came.
        queue: for what is said about it.
    """

    def __init__(self, channel: aiormq.Channel, queue: str) -> None:
        self._channel: Any = channel
        self._what = f"settling messages of {queue}"
        self._through = 0  # everything up to this tag is settled
        self._singly: set[int] = set()  # tags beyond it that are settled

    def is_settled(self, tag: int) -> bool:
        """Tell whether the channel has been told of a tag."""
        return tag <= self._through or tag in self._singly

    async def through(self, tag: int | None) -> None:
        """Acknowledge all up to a tag."""
        last = tag or 0
        while last in self._singly:
            last -= 1
        if last > self._through:
            await self._send(
                [spec.Basic.Ack(delivery_tag=last, multiple=True)], partial(self._note_through, tag)
            )

    def _note_through(self, tag: Any) -> None:
        self._through = tag
        self._singly = {other for other in self._singly if other > tag}

    async def done(self, tags: Iterable[int]) -> None:
        """Acknowledge these."""
        await self._each(tags, lambda tag: spec.Basic.Ack(delivery_tag=tag))

    async def rejected(self, tags: Iterable[int]) -> None:
        """Have the server drop these, or send them where its queue sends what it drops."""
        await self._each(tags, lambda tag: spec.Basic.Reject(delivery_tag=tag, requeue=False))

    async def given_back(self, tags: Iterable[int]) -> None:
        """Put these back into their queue."""
        await self._each(tags, lambda tag: spec.Basic.Nack(delivery_tag=tag, requeue=True))

    async def _each(self, tags: Iterable[int], frame: Callable[[int], Frame]) -> None:
        new = [tag for tag in tags if not self.is_settled(tag)]
        for start in range(0, len(new), FRAMES_AT_ONCE):
            chunk = new[start : start + FRAMES_AT_ONCE]
            await self._send(list(map(frame, chunk)), partial(self._note_singly, chunk))

    def _note_singly(self, tags: Sequence[int]) -> None:
        self._singly.update(tags)

    async def _send(self, frames: Sequence[Frame], note: Callable[[], None]) -> None:
        """Have frames written, and wait until they are: a connection that closes drops what it has not written.

        Args:
            frames: sent in this order, or the channel dies.
            note: called as soon as they cannot be held back any more, so that they are not sent again.
        """
        channel = self._channel
        written = channel.create_future()
        packed = ChannelFrame.marshall(channel.number, frames, drain_future=written)
        await ask(lambda: channel.write_queue.put(packed), self._what)
        note()
        await ask(lambda: written, self._what)
