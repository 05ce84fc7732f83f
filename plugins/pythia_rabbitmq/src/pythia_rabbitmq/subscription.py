"""The live consumer: one connection with one channel, on which messages come and are acknowledged.

Delivery tags belong to their channel. When it dies, everything that was not acknowledged goes back to the queue by itself,
so its partition is lost, and the engine subscribes anew. Nothing is restored on a connection that was made before.

R1. A tag is acknowledged, rejected or given back once: a second time, or a tag that is not out, and the server ends the
    channel.
R2. ``multiple`` names a tag that is still out: of another one old servers take all that is out.
R3. What is given back is given back after ``basic.cancel``, or it comes straight back to us.
R4. With ``auto_ack`` no more than the prefetch is at work: ``no_ack`` would let all of the queue out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiormq
import anyio
from aiormq import spec
from aiormq.abc import ChannelFrame

from pythia_core import (
    Assignment,
    Chunk,
    Owner,
    Partition,
    Refusals,
    Refused,
    Settlement,
    Subscription,
    SubscriptionLost,
)
from pythia_rabbitmq.connection import (
    ConnectionLost,
    Line,
    Mismatch,
    NoAnswer,
    NotThere,
    ask,
    connect,
    describe,
    log,
)
from pythia_rabbitmq.deliveries import Deliveries
from pythia_rabbitmq.queues import bind, declare, must_be_there

if TYPE_CHECKING:
    from pythia_rabbitmq.source import RabbitMQConsumer

PARTITION: Final = 0  # a queue has no partitions
FRAMES_AT_ONCE: Final = 1000  # acknowledgements in one write
STOPPED_WAIT: Final = 0.05  # seconds
FULL_WAIT: Final = 0.01  # seconds

NO_LEADER: Final = (
    "so says a quorum queue that has no leader: most of its servers are down, or it was killed with its server within "
    "seconds of being made, and has to be deleted, to be made anew"
)

_assignments = itertools.count(1)


class RabbitMQSubscription(Subscription):
    """Consumes a queue.

    Args:
        source: the resolved source.
        owner: the engine.
    """

    def __init__(self, source: RabbitMQConsumer, owner: Owner) -> None:
        self._source = source
        self._owner = owner
        self._assignment = Assignment(next(_assignments))
        self._consumer = f"{source.queue}-{self._assignment.id}"
        self._line: Line | None = None
        self._error: SubscriptionLost | None = None
        self._came = anyio.Event()
        self._through = 0  # everything up to this tag is settled
        self._singly: set[int] = set()  # tags beyond it that are settled
        self._at_work: set[int] = set()  # tags acknowledged at once, with auto_ack, and not reported as done
        self._stopped = False
        self._closed = False

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, declare and consume.

        Raises:
            SubscriptionLost: if the server cannot be reached, refuses, or has no such queue.
        """
        try:
            self._line = await connect(self._source.address({}), f"{self._source.queue} read")
            await self._find_queue(self._line)
            await self._consume(self._line)
        except (ConnectionLost, Mismatch, NotThere) as error:
            raise SubscriptionLost(str(error)) from None
        if self._source.auto_ack and self._source.queue not in self._source.met:
            log.warning(
                "queue %s is consumed with auto_ack: at most once, and a crash loses up to %d messages",
                self._source.queue,
                self._source.window,
            )
        self._source.met.add(self._source.queue)
        self._owner.assigned({PARTITION: self._assignment})

    async def _find_queue(self, line: Line) -> None:
        source = self._source
        if source.declare and (source.when_gone == "recreate" or source.queue not in source.met):
            try:
                await declare(line, source.queue, durable=source.durable, arguments=source.queue_arguments)
            except Mismatch as error:
                log.warning("queue %s is used as it is: %s", source.queue, error)
            await bind(line, source.queue, source.bindings)
        else:
            await must_be_there(line, source.queue)

    async def _consume(self, line: Line) -> None:
        source = self._source
        channel = self._channel = await line.channel()
        self._ending = channel.closing
        self._ending.add_done_callback(self._ended)
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._deliveries = Deliveries()
        line.deliver(channel, self._deliveries, self._wake)
        what = f"consuming {source.queue} of RabbitMQ at {line.host}"
        await ask(lambda: channel.basic_qos(prefetch_count=source.window), what)
        try:
            await ask(
                lambda: channel.basic_consume(
                    source.queue,
                    _unused,
                    consumer_tag=self._consumer,
                    arguments=source.consumer_arguments,
                ),
                what,
            )
        except NoAnswer as error:
            raise ConnectionLost(f"{error}; {NO_LEADER}") from None

    def _wake(self) -> None:
        self._came.set()

    def _ended(self, future: Any) -> None:
        error = None if future.cancelled() else future.exception()
        self._lose(f"the channel has ended: {describe(error)}")

    def _cancelled(self, frame: spec.Basic.Cancel) -> None:
        if not self._closed:
            log.error(
                "the server has cancelled our consumer of queue %s: the queue was deleted or has lost its leader%s",
                self._source.queue,
                "; it is made anew, empty, if it is gone" if self._source.when_gone == "recreate" else "",
            )
        self._lose("the server has cancelled our consumer: the queue was deleted or has lost its leader")

    def _lose(self, why: str) -> None:
        if self._closed or self._error is not None:
            return
        where = "" if self._line is None else f" at RabbitMQ {self._line.host}"
        self._error = SubscriptionLost(f"queue {self._source.queue}{where}: {why}")
        self._wake()
        self._owner.lost([PARTITION])

    # -- reading -------------------------------------------------------------------------------------------------

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return the next messages; see :meth:`pythia_core.Subscription.fetch`."""
        if self._error is not None:
            raise self._error
        limit = min(limit, room.get(PARTITION, 0))
        if limit <= 0 or self._stopped:
            await anyio.sleep(min(wait, STOPPED_WAIT) if self._stopped else wait)
            return ()
        if self._source.auto_ack:
            limit = min(limit, self._source.window - len(self._at_work))
            if limit <= 0:
                await anyio.sleep(min(wait, FULL_WAIT))
                return ()
        await self._something(wait)
        messages = self._deliveries.take(limit, max_bytes)
        if not messages:
            return ()
        if self._source.auto_ack:
            await self._acknowledge([message.position for message in messages])
        return (Chunk(PARTITION, messages),)

    async def _something(self, wait: float) -> None:
        """Wait until something has come, or for so long."""
        if not len(self._deliveries):
            self._came = anyio.Event()
            with anyio.move_on_after(wait):
                await self._came.wait()
        if self._error is not None:
            raise self._error

    async def _acknowledge(self, tags: list[int]) -> None:
        """Acknowledge messages before they are handed over: whatever becomes of them, they do not come again."""

        def note() -> None:
            self._at_work.update(tags)
            self._through = tags[-1]

        await self._send([spec.Basic.Ack(delivery_tag=tags[-1], multiple=True)], note)

    # -- settling ------------------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Tell RabbitMQ; see :meth:`pythia_core.Subscription.settle`."""
        refusals: list[Refused] = []
        for settlement in settlements:
            if settlement.assignment != self._assignment.id or self._error is not None:
                refusals.append(Refused(settlement.partition, settlement.assignment))
            elif self._source.auto_ack:
                self._forget(settlement)
            else:
                await self._settle(settlement)
        return refusals

    def _forget(self, settlement: Settlement) -> None:
        gone = {*settlement.beyond, *settlement.released, *settlement.rejected}
        through = settlement.through or 0
        self._at_work = {tag for tag in self._at_work if tag > through and tag not in gone}

    async def _settle(self, settlement: Settlement) -> None:
        through = settlement.through or 0
        while through in self._singly:
            through -= 1
        if through > self._through:
            await self._send(
                [spec.Basic.Ack(delivery_tag=through, multiple=True)],
                partial(self._note_through, settlement.through),
            )
        await self._each(settlement.beyond, lambda tag: spec.Basic.Ack(delivery_tag=tag))
        await self._each(settlement.rejected, lambda tag: spec.Basic.Reject(delivery_tag=tag, requeue=False))
        await self._each(settlement.released, _give_back)

    def _note_through(self, tag: Any) -> None:
        self._through = tag
        self._singly = {other for other in self._singly if other > tag}

    async def _each(self, tags: Sequence[int], frame: Any) -> None:
        """Settle tags one by one, each once."""
        new = [tag for tag in tags if tag > self._through and tag not in self._singly]
        for start in range(0, len(new), FRAMES_AT_ONCE):
            chunk = new[start : start + FRAMES_AT_ONCE]
            await self._send(list(map(frame, chunk)), partial(self._singly.update, chunk))

    async def _send(self, frames: Sequence[Any], note: Callable[[], None]) -> None:
        """Have frames written, and wait until they are: a connection that closes drops what it has not written.

        Args:
            frames: sent in this order, or the channel dies.
            note: called as soon as they cannot be held back any more, so that they are not sent again.
        """
        channel = self._channel
        what = f"settling messages of {self._source.queue}"
        written = channel.create_future()
        packed = ChannelFrame.marshall(channel.number, frames, drain_future=written)
        await ask(lambda: channel.write_queue.put(packed), what)
        note()
        await ask(lambda: written, what)

    # -- the end -------------------------------------------------------------------------------------------------

    async def stop_fetching(self) -> None:
        """Cancel the consumer, and give back what has come and was not handed over."""
        self._stopped = True
        if self._error is not None or self._closed:
            return
        channel = self._channel
        await ask(
            lambda: channel.basic_cancel(self._consumer), f"cancelling the consumer of {self._source.queue}"
        )
        rest = self._deliveries.take(len(self._deliveries), 1 << 62)
        await self._each([message.position for message in rest], _give_back)

    async def aclose(self) -> None:
        """Disconnect. What is not acknowledged goes back to the queue."""
        self._closed = self._stopped = True
        self._wake()
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


def _give_back(tag: int) -> spec.Basic.Nack:
    return spec.Basic.Nack(delivery_tag=tag, requeue=True)


async def _unused(message: aiormq.abc.DeliveredMessage) -> None:
    """Stand where aiormq wants a callback; what comes is taken before it would be called."""
