"""Drive a subscription through its contract, one call at a time; a bare client beside it; and the engine on a source."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self

import aio_pika
import anyio
import attrs
from aio_pika.abc import AbstractChannel

from pythia_core import Assignment, Message, Partition, Refused, RetryPolicy, Settings, Settlement, Start
from pythia_core.engine.engine import Engine
from pythia_rabbitmq import RabbitMQConsumer, RabbitMQProducer
from pythia_rabbitmq.subscription import RabbitMQSubscription
from pythia_rabbitmq.suspect import SUSPECTS
from tests.waiting import INTERVAL

NO_LIMIT = 1 << 30
CLASSIC: Mapping[str, Any] = {"queue_type": "classic"}
"""What a source of a test is given: quorum queues take a tenth of a second to make."""

Handler = Callable[[Message[Any]], Awaitable[Any]]
FAST = Settings(batch_timeout=0.1, drain_timeout=5, retry=RetryPolicy(attempts=2, base=0.01, cap=0.01))


@attrs.define(eq=False)
class RecordingOwner:
    """An owner that remembers what it was told."""

    assignments: dict[Partition, Assignment] = attrs.field(factory=dict)
    told: list[str] = attrs.field(factory=list)

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        self.told.append("assigned")
        self.assignments.update(assignments)

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        self.told.append("revoked")

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.told.append("lost")


@attrs.define(eq=False)
class Member:
    """A resolved source, its owner and its subscription."""

    source: RabbitMQConsumer
    owner: RecordingOwner
    subscription: RabbitMQSubscription

    @classmethod
    @asynccontextmanager
    async def join(cls, queue: str, **options: Any) -> AsyncIterator[Self]:
        """Subscribe as a worker's start does; leave at the end."""
        source = RabbitMQConsumer(queue, **{**CLASSIC, **options}).resolve(Start(worker="worker"))
        owner = RecordingOwner()
        subscription = await source.subscribe(owner)
        assert isinstance(subscription, RabbitMQSubscription)
        try:
            yield cls(source, owner, subscription)
        finally:
            await subscription.aclose()

    async def fetch(
        self, limit: int = 500, *, wait: float = 0.1, max_bytes: int = NO_LIMIT
    ) -> list[Message[Any]]:
        """Fetch once and return the messages."""
        chunks = await self.subscription.fetch({0: NO_LIMIT, SUSPECTS: NO_LIMIT}, limit, max_bytes, wait)
        return [message for chunk in chunks for message in chunk.messages]

    async def receive(self, count: int = 1, *, seconds: float = 30) -> list[Message[Any]]:
        """Fetch until so many messages have come."""
        found: list[Message[Any]] = []
        with anyio.fail_after(seconds):
            while len(found) < count:
                found += await self.fetch(count - len(found))
        return found

    async def settle(
        self,
        through: int | None = None,
        *,
        done: Sequence[int] = (),
        released: Sequence[int] = (),
        rejected: Sequence[int] = (),
        partition: Partition = 0,
    ) -> Sequence[Refused]:
        """Settle under the present assignment."""
        return await self.subscription.settle(
            [
                Settlement(
                    partition,
                    self.owner.assignments[partition].id,
                    through=through,
                    beyond=tuple(done),
                    released=tuple(released),
                    rejected=tuple(rejected),
                )
            ]
        )


class Members(Protocol):
    """What the fixture `members` hands out."""

    async def __call__(self, queue: str, **options: Any) -> Member:
        """Subscribe; closed with the test."""
        ...


@attrs.define(eq=False)
class Client:
    """aio-pika, as independent publisher and counter."""

    connection: Any
    channel: AbstractChannel

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Self]:
        """Connect for one block."""
        connection = await aio_pika.connect(url)
        try:
            yield cls(connection, await connection.channel())
        finally:
            with anyio.move_on_after(2):
                await connection.close()

    async def declare(self, queue: str, **options: Any) -> None:
        """Make a classic queue."""
        await self.channel.declare_queue(
            queue, durable=True, arguments={"x-queue-type": "classic"}, **options
        )

    async def publish(self, queue: str, count: int = 1, *, start: int = 0, **properties: Any) -> None:
        """Publish so many messages `{"n": number}`, persistently and confirmed, to a queue that is there."""
        exchange = self.channel.default_exchange
        for first in range(start, start + count, 500):
            async with anyio.create_task_group() as group:
                for number in range(first, min(first + 500, start + count)):
                    message = aio_pika.Message(b'{"n": %d}' % number, delivery_mode=2, **properties)
                    group.start_soon(exchange.publish, message, queue)

    async def send(self, queue: str, body: bytes, **properties: Any) -> None:
        """Publish one message."""
        await self.channel.default_exchange.publish(
            aio_pika.Message(body, delivery_mode=2, **properties), queue
        )

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        channel = await self.connection.channel()
        try:
            declared = await channel.declare_queue(queue, passive=True)
            return int(declared.declaration_result.message_count)
        finally:
            await channel.close()

    async def drain(self, queue: str) -> list[Any]:
        """Take everything that waits in a queue."""
        found = []
        there = await self.channel.get_queue(queue)
        while (message := await there.get(fail=False)) is not None:
            await message.ack()
            found.append(message)
        return found

    async def wait_for_depth(self, queue: str, depth: int, *, seconds: float = 30) -> None:
        """Wait until so many messages wait in a queue."""
        deadline = anyio.current_time() + seconds
        while (found := await self.depth(queue)) != depth:
            if anyio.current_time() > deadline:
                raise TimeoutError(f"Waited {seconds} s in vain for {depth} in {queue}: there are {found}.")
            await anyio.sleep(INTERVAL)


def make_engine(
    url: str,
    queue: str,
    handler: Handler,
    settings: Settings = FAST,
    *,
    sink: RabbitMQProducer | None = None,
    dead_letter: RabbitMQProducer | None = None,
    **options: Any,
) -> Engine:
    """Make an engine as a worker's start does."""
    source = RabbitMQConsumer(queue, url=url, **{**CLASSIC, **options}).resolve(Start(worker="worker"))
    return Engine(source, handler, settings, sink=sink, dead_letter=dead_letter)


@asynccontextmanager
async def running(*engines: Engine) -> AsyncIterator[None]:
    """Run engines; stop them gracefully at the end."""
    async with anyio.create_task_group() as group:
        for engine in engines:
            group.start_soon(engine.run)
        try:
            yield
        finally:
            for engine in engines:
                engine.stop()
