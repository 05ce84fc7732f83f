"""What `batch_size` and `batch_timeout` of the guide's configuration do, for both kinds of workers, on every broker."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pythia import Message, Output, Worker
from pythia.brokers.kafka import KafkaAdmin, KafkaConsumer
from pythia.brokers.memory import MemoryBroker, MemoryConsumer
from pythia.brokers.rabbitmq import RabbitMQConsumer
from pythia.brokers.redis import RedisStreamsConsumer
from pythia.config import WorkerConfig
from pythia_core import Settlement, Source
from pythia_core.engine.session import Session
from pythia_core.runtime import Runtime
from tests.servers.kafka import KafkaServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.waiting import eventually

SECONDS = 60  # a deadline, not an expectation


@pytest.fixture(params=["memory", "redis", "kafka", "rabbitmq"])
async def source(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    guide_kafka: KafkaServer,
    rabbitmq_server: RabbitServer,
) -> AsyncIterator[Source]:
    """A source on each broker, of which nobody has read yet."""
    if request.param == "memory":
        yield MemoryConsumer("numbers", broker=MemoryBroker())
    elif request.param == "redis":
        yield RedisStreamsConsumer("numbers", url=redis_server.url)
    elif request.param == "kafka":
        async with KafkaAdmin(bootstrap_servers=guide_kafka.address) as admin:
            await admin.create_topic("numbers")
            yield KafkaConsumer("numbers", bootstrap_servers=guide_kafka.address)
            await admin.delete_topic("numbers")
    else:
        url = rabbitmq_server.add_vhost("batches")
        yield RabbitMQConsumer("numbers", url=url, prefetch_count=100)
        rabbitmq_server.delete_vhost("batches")


@asynccontextmanager
async def at_work(worker: Worker[Any]) -> AsyncIterator[Runtime]:
    """Run a worker for one block; what it holds back is cut off at the end."""
    runtime = Runtime(worker)
    async with anyio.create_task_group() as group:
        group.start_soon(runtime.run)
        await eventually(lambda: runtime.health().ready, "the worker is ready", seconds=SECONDS)
        yield runtime
        runtime.force()


async def send(source: Source, count: int) -> None:
    """Write so many messages at once."""
    async with source.counterpart() as sink:
        result = await sink.write([Output(sink, number) for number in range(count)])
        assert all(result.error(index) is None for index in range(count))


def in_flight(runtime: Runtime) -> int:
    """Return how many messages the worker has."""
    assert runtime._engine is not None
    return runtime._engine.stats.in_flight


class Batches(Worker[int]):
    """Writes down when a batch began and how large it was; the first waits for a word."""

    def __init__(self, source: Source) -> None:
        config = WorkerConfig(batch_size=10, batch_timeout=1.0, max_concurrent_tasks=1, drain_timeout=10)
        super().__init__(source=source, config=config)
        self.go = anyio.Event()
        self.began: list[tuple[float, int]] = []

    async def process_batch(self, messages: Sequence[Message[int]]) -> None:
        """Take them."""
        self.began.append((time.monotonic(), len(messages)))
        await self.go.wait()

    @property
    def sizes(self) -> list[int]:
        """How large the batches were."""
        return [size for _, size in self.began]


async def test_a_batch_is_full_or_its_time_is_up(source: Source) -> None:
    """`process_batch` gets `batch_size` messages where they are there, else what came within `batch_timeout` of the first."""
    worker = Batches(source)
    async with at_work(worker) as runtime:
        await send(source, 1)
        await eventually(lambda: worker.sizes == [1], "the first is at work", seconds=SECONDS)
        await send(source, 25)
        await eventually(lambda: in_flight(runtime) == 26, "all have been fetched", seconds=SECONDS)
        worker.go.set()
        await eventually(lambda: sum(worker.sizes) == 26, "all are done", seconds=SECONDS)
        assert worker.sizes == [1, 10, 10, 5]
        await eventually(lambda: in_flight(runtime) == 0, "nothing is left", seconds=SECONDS)
        sent = time.monotonic()
        await send(source, 3)
        await eventually(lambda: sum(worker.sizes) == 29, "the last are done", seconds=SECONDS)
        began, _ = worker.began[4]
        assert began - sent >= 0.9, "a batch that is not full waits for its time"


class Singles(Worker[int]):
    """Holds the first message until a word."""

    def __init__(self, source: Source) -> None:
        config = WorkerConfig(batch_size=5, batch_timeout=0.3, max_concurrent_tasks=2, drain_timeout=10)
        super().__init__(source=source, config=config)
        self.go = anyio.Event()
        self.done = 0

    async def process(self, message: Message[int]) -> None:
        """Wait if it is the first."""
        if message.body == 0:
            await self.go.wait()
        self.done += 1


async def test_for_single_messages_they_bound_fetches_and_settlements(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fetch brings more than `batch_size`, and what is done is settled by `batch_timeout` though something is at work."""
    fetched: list[int] = []
    settled: list[Settlement] = []
    fetch, settle = Session._fetch, Session._settle

    async def spied_fetch(session: Session, limit: int) -> Any:
        chunks = await fetch(session, limit)
        fetched.append(sum(len(chunk.messages) for chunk in chunks))
        return chunks

    async def spied_settle(session: Session, settlements: Sequence[Settlement]) -> Any:
        settled.extend(settlements)
        return await settle(session, settlements)

    monkeypatch.setattr(Session, "_fetch", spied_fetch)
    monkeypatch.setattr(Session, "_settle", spied_settle)
    worker = Singles(source)
    async with at_work(worker) as runtime:
        await send(source, 20)
        await eventually(lambda: worker.done == 19, "all but one are done", seconds=SECONDS)
        await eventually(lambda: _count(settled), "something is settled", seconds=SECONDS)
        worker.go.set()
        await eventually(lambda: in_flight(runtime) == 0, "all are done", seconds=SECONDS)
    assert max(fetched) <= 5
    assert sum(fetched) == 20


def _count(settled: Sequence[Settlement]) -> bool:
    """Tell whether work was settled: as positions, or on Kafka by the note beside a position that stays."""
    return any(done.beyond or done.note for done in settled)
