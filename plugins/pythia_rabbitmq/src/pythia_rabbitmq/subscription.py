"""The live consumer: one connection with one channel, on which messages come and are acknowledged.

Delivery tags belong to their channel. When it dies, everything that was not acknowledged goes back to the queue by itself,
so its partition is lost, and the engine subscribes anew. Nothing is restored on a connection that was made before.

How tags are settled is :mod:`~pythia_rabbitmq.receipts`'; what becomes of suspects, :mod:`~pythia_rabbitmq.quarantine`'s.

R3. What is given back is given back after ``basic.cancel``, or it comes straight back to us.
R4. With ``auto_ack`` no more than the prefetch is at work: ``no_ack`` would let all of the queue out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import aiormq
import anyio
from aiormq import spec

from pythia_core import (
    Assignment,
    Chunk,
    Message,
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
from pythia_rabbitmq.message import RabbitMQMessage
from pythia_rabbitmq.quarantine import REDELIVERED, Quarantine
from pythia_rabbitmq.queues import find
from pythia_rabbitmq.receipts import Receipts
from pythia_rabbitmq.suspect import SUSPECTS

if TYPE_CHECKING:
    from pythia_rabbitmq.source import RabbitMQConsumer

PARTITION: Final = 0  # a queue has no partitions
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
        self._at_work: set[int] = set()  # tags acknowledged at once, with auto_ack, and not reported as done
        self._quarantine: Quarantine | None = None  # where there is one
        self._shown = False  # whether what is in it is a partition of ours
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
            await find(self._line, self._source)
            if self._source.watches:
                self._quarantine = Quarantine(self._source, self._lose)
                await self._quarantine.open(self._line)
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

    async def _consume(self, line: Line) -> None:
        source = self._source
        channel = self._channel = await line.channel()
        self._ending = channel.closing
        self._ending.add_done_callback(self._ended)
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._deliveries = Deliveries()
        self._receipts = Receipts(channel, source.queue)
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
        self._owner.lost([PARTITION, SUSPECTS] if self._shown else [PARTITION])

    # -- reading -------------------------------------------------------------------------------------------------

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return the next messages; see :meth:`pythia_core.Subscription.fetch`."""
        if self._error is not None:
            raise self._error
        if self._quarantine is not None and limit > 0 and not self._stopped and self._may_be_shown(room):
            suspect = await (self._quarantine.take() if limit == 1 else self._quarantine.show())
            if suspect is not None:
                return self._suspects(suspect)
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
        if self._quarantine is not None and any(map(REDELIVERED, messages)):
            messages = await self._sift(self._quarantine, messages, limit)
        return (Chunk(PARTITION, messages),) if messages else ()

    async def _sift(
        self, quarantine: Quarantine, messages: list[RabbitMQMessage], limit: int
    ) -> list[RabbitMQMessage]:
        """Put suspects aside, all that have come, so that others can run them too; return what is none."""
        rest = self._deliveries.take(len(self._deliveries), 1 << 62)
        others, aside = await quarantine.sift([*messages, *rest])
        await self._receipts.done(aside)
        self._deliveries.put_back(others[limit:])
        return others[:limit]

    def _may_be_shown(self, room: Mapping[Partition, int]) -> bool:
        return bool(room) and (not self._shown or room.get(SUSPECTS, 0) > 0)

    def _suspects(self, suspect: Message[Any]) -> Sequence[Chunk]:
        if not self._shown:
            self._shown = True
            self._owner.assigned({SUSPECTS: self._assignment})
        return (Chunk(SUSPECTS, (suspect,)),)

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
        self._at_work.update(tags)
        await self._receipts.through(tags[-1])

    # -- settling ------------------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Tell RabbitMQ; see :meth:`pythia_core.Subscription.settle`."""
        refusals: list[Refused] = []
        for settlement in settlements:
            if settlement.assignment != self._assignment.id or self._error is not None:
                refusals.append(Refused(settlement.partition, settlement.assignment))
            elif settlement.partition == SUSPECTS and self._quarantine is not None:
                await self._quarantine.settle(settlement)
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
        receipts = self._receipts
        await receipts.through(settlement.through)
        await receipts.done(settlement.beyond)
        await receipts.rejected(settlement.rejected)
        await receipts.given_back(settlement.released)

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
        await self._receipts.given_back(message.position for message in rest)

    async def aclose(self) -> None:
        """Disconnect. What is not acknowledged goes back to the queue."""
        self._closed = self._stopped = True
        self._wake()
        if self._quarantine is not None:
            await self._quarantine.aclose()
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


async def _unused(message: aiormq.abc.DeliveredMessage) -> None:
    """Stand where aiormq wants a callback; what comes is taken before it would be called."""
