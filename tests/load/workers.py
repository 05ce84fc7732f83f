"""Workers that load tests run: on the broker in memory here, and on Redis in processes."""

import time
from collections.abc import Sequence
from typing import Any

import anyio

from pythia import BatchError, Message, Output, Skip, Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.brokers.redis import RedisStreamsConsumer, RedisStreamsProducer
from pythia.config import RetryPolicy, WorkerConfig

NO_RETRY = WorkerConfig(retry=RetryPolicy(attempts=1), order="key")


class Good(Worker[Any]):
    """Does what it is told, in order."""

    source = MemoryConsumer("load-good")
    config = WorkerConfig(order="key")

    async def process(self, message: Message[Any]) -> None:
        """Do nothing."""


class Failing(Worker[Any]):
    """Fails every tenth message for good, and skips every hundredth."""

    source = MemoryConsumer("load-failing")
    config = NO_RETRY

    async def process(self, message: Message[Any]) -> None:
        if message.body["id"] % 100 == 0:
            raise Skip("a hundredth")
        if message.body["id"] % 10 == 1:
            raise ValueError("a tenth")


class Slow(Worker[Any]):
    """Takes 10 ms of the only slot for each message: 100 a second are all it can do."""

    source = MemoryConsumer("load-slow")
    config = WorkerConfig(max_concurrent_tasks=1)

    async def process(self, message: Message[Any]) -> None:
        time.sleep(0.01)  # noqa: ASYNC251 - it is to hold up everything


class Batches(Worker[Any]):
    """Takes batches, of which every tenth message fails for good."""

    source = MemoryConsumer("load-batches")
    config = WorkerConfig(retry=RetryPolicy(attempts=1), batch_timeout=0.05)

    async def process_batch(self, messages: Sequence[Message[Any]]) -> None:
        bad = {index: ValueError() for index, message in enumerate(messages) if message.body["id"] % 10 == 1}
        if bad:
            raise BatchError(bad)


class OnRedis(Worker[Any]):
    """Does nothing, on Redis."""

    source = RedisStreamsConsumer("load")

    async def process(self, message: Message[Any]) -> None:
        """Do nothing."""


class Broken(OnRedis):
    """Cannot start."""

    async def startup(self) -> None:
        raise RuntimeError("no table is laid")


class Pull(Worker[Any]):
    """The first stage of a pipeline: returns what the next one reads; every tenth message fails once."""

    source = MemoryConsumer("load-raw")
    sink = MemoryProducer("load-pulled")
    config = WorkerConfig(order="key", retry=RetryPolicy(base=0.01, cap=0.01))

    async def process(self, message: Message[Any]) -> Output:
        if message.body["id"] % 10 == 0 and message.attempt == 1:
            raise ConnectionError
        return Output(self.sink, message.body, key=str(message.key))


class Push(Worker[Any]):
    """The second stage: sends by itself, as the user's guide does."""

    source = MemoryConsumer("load-pulled")
    sink = MemoryProducer("load-pushed")
    config = WorkerConfig(order="key")

    async def process(self, message: Message[Any]) -> None:
        await self.sink.send(message.body, key=str(message.key))


class Store(Worker[Any]):
    """The last stage, which is behind when the first ones have done everything."""

    source = MemoryConsumer("load-pushed")
    config = WorkerConfig(order="key", max_concurrent_tasks=1)

    async def process(self, message: Message[Any]) -> None:
        await anyio.sleep(0.005)


class Leaky(Push):
    """Loses every hundredth message."""

    async def process(self, message: Message[Any]) -> None:
        if message.body["id"] % 100:
            await super().process(message)


class PullRedis(Worker[Any]):
    """A stage on Redis."""

    source = RedisStreamsConsumer("load-one")
    sink = RedisStreamsProducer("load-two")

    async def process(self, message: Message[Any]) -> Any:
        return message.body


class StoreRedis(Worker[Any]):
    """The stage behind it."""

    source = RedisStreamsConsumer("load-two")

    async def process(self, message: Message[Any]) -> None:
        """Do nothing."""
