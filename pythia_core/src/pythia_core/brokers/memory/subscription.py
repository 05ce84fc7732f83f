"""The live consumer: where the state machine of :mod:`~pythia_core.brokers.memory.group` meets an event loop.

Everything that changes the group is synchronous, so nothing can come between taking messages and returning them. What
takes time (waiting for a message, giving up partitions) happens in ``fetch`` alone, as in the Java Kafka client's
``poll``: a member that no longer fetches and is asked to give up partitions is expired after ``revoke_seconds``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import anyio.lowlevel

from pythia_core.brokers.memory.broker import MemoryBroker
from pythia_core.brokers.memory.group import Group, Member
from pythia_core.brokers.memory.handover import give_up
from pythia_core.contracts.message import Partition
from pythia_core.contracts.settlement import Chunk, Refusals, Settlement
from pythia_core.contracts.source import Subscription
from pythia_core.errors import SubscriptionLost


class MemorySubscription(Subscription):
    """One member of one group.

    Args:
        broker: whose clock and faults it goes by.
        group: what it reads.
        member: who it is there. It has joined already.
    """

    def __init__(self, broker: MemoryBroker, group: Group, member: Member) -> None:
        self.member = member
        self._broker = broker
        self._group = group
        self._topic = group.topic
        self._stopped = False
        self._closed = False

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return what there is now, or else the first that comes within ``wait`` seconds."""
        if self._closed:
            raise SubscriptionLost(f"{self.member.name} was closed: subscribe again")
        await anyio.lowlevel.checkpoint()
        deadline = anyio.current_time() + wait
        before = self._stopped, dict(self.member.held)
        while True:
            await self._broker.before("fetch", self._topic.name)
            await self._keep_membership()
            chunks = self._take(room, limit, max_bytes)
            left = deadline - anyio.current_time()
            if chunks or left <= 0 or self._closed or before != (self._stopped, self.member.held):
                return (
                    chunks  # if what we hold has changed, the room we were given is not what we have room for
                )
            await self._sleep(left)

    def _take(self, room: Mapping[Partition, int], limit: int, max_bytes: int) -> list[Chunk]:
        self._topic.release(self._broker.clock())
        if self._stopped:
            self._group.sweep(self._broker.clock())
            return []
        return self._group.take(self.member, room, limit, max_bytes, self._broker.clock())

    async def _sleep(self, seconds: float) -> None:
        """Sleep until something happens in the topic, or is due in the group, but no longer than so many seconds."""
        dues = [self._group.next_due, self._topic.held[0][0] if self._topic.held else None]
        for due in dues:
            if due is not None:
                seconds = min(seconds, max(0.0, due - self._broker.clock()))
        news = anyio.Event()
        self._topic.sleepers.add(news)
        try:
            with anyio.move_on_after(seconds):
                await news.wait()
        finally:
            self._topic.sleepers.discard(news)

    async def _keep_membership(self) -> None:
        """Join again if we were expired; give up what we are asked for, until that is nothing more."""
        while not self._closed:
            if self.member not in self._group.members:
                self._group.join(self.member, self._broker.clock())
            if not await give_up(self._group, self.member, self._broker.clock):
                return

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Settle each; what was said before and is said again changes nothing."""
        await anyio.lowlevel.checkpoint()
        await self._broker.before("settle", self._topic.name)
        now = self._broker.clock()
        answers = [self._group.settle(self.member, settlement, now) for settlement in settlements]
        self._broker.after("settle", self._topic.name)
        return [answer for answer in answers if answer is not None]

    async def stop_fetching(self) -> None:
        """Deliver nothing more; what a fetch under way has not returned yet stays in the broker."""
        self._stopped = True
        self._topic.wake()

    async def aclose(self) -> None:
        """Leave the group: what was not settled is delivered to others. A waiting fetch returns."""
        if not self._closed:
            self._closed = self._stopped = True
            self._group.leave(self.member, self._broker.clock())  # which wakes all who sleep on the topic
