"""A worker whose rate and whose memory of what is done lie on a Redis that dies, stands still, or forgets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from pythia_core import Message, Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.middleware import Deduplicate, RateLimit
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from pythia_redis import RedisIdempotencyStore, RedisTokenBucket
from tests.servers.fixtures import OwnRedis
from tests.waiting import eventually

SECONDS = 60  # a deadline, not an expectation


class Orders(Worker[int]):
    """Counts how often each order was worked on, and the attempts that it took."""

    def __init__(self, broker: MemoryBroker, url: str, **dedupe: Any) -> None:
        layers = [
            RateLimit(1000, bucket=RedisTokenBucket("orders", url=url)),
            Deduplicate(RedisIdempotencyStore("orders", url=url), identity="order", **dedupe),
        ]
        config = WorkerConfig(middleware=layers, drain_timeout=10, max_concurrent_tasks=1)
        super().__init__(source=MemoryConsumer("orders", broker=broker), config=config)
        self.done: Counter[int] = Counter()
        self.attempts: set[int] = set()

    async def process(self, message: Message[int]) -> None:
        """Count."""
        self.attempts.add(message.attempt)
        self.done[message.body] += 1


def publish(broker: MemoryBroker, *numbers: int) -> None:
    """Publish each of them twice: a copy is to be skipped."""
    for number in numbers:
        for _ in range(2):
            broker.publish("orders", str(number).encode(), headers={"order": str(number)})


def settled(broker: MemoryBroker) -> int:
    """Return how many messages will never be delivered again."""
    return len(broker.settled("orders", "orders"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["dies", "stands still"])
async def test_a_store_that_is_away_costs_no_message_an_attempt(own_redis: OwnRedis, fault: str) -> None:
    """They wait, dead or slow as it is, and are done once when it is back: neither lost, nor a dead letter, nor twice."""
    server, broker = own_redis(durable=True), MemoryBroker()
    runtime = Runtime(worker := Orders(broker, server.url), environ={}, registry=Registry())
    async with anyio.create_task_group() as group:
        group.start_soon(runtime.run)
        publish(broker, *range(10))
        await eventually(lambda: sum(worker.done.values()) == 10, "ten are done", seconds=SECONDS)
        server.kill() if fault == "dies" else server.pause()
        publish(broker, *range(10, 20))
        layers = runtime._engine.gates if runtime._engine else ()
        held = lambda: any(layer.admit(100).count == 0 for layer in layers)
        await eventually(held, "intake is held back", seconds=SECONDS)
        assert sum(worker.done.values()) == 10
        server.start() if fault == "dies" else server.resume()
        await eventually(lambda: settled(broker) == 40, "all are settled", seconds=SECONDS)
        runtime.stop()
    assert worker.done == Counter(range(20))
    assert worker.attempts == {1}


async def test_a_store_that_has_forgotten_lets_copies_run_again(own_redis: OwnRedis) -> None:
    """What Redis loses is work repeated, never a message lost: deduplication is no promise beyond its store's."""
    server, broker = own_redis(), MemoryBroker()
    runtime = Runtime(worker := Orders(broker, server.url), environ={}, registry=Registry())
    async with anyio.create_task_group() as group:
        group.start_soon(runtime.run)
        publish(broker, 1)
        await eventually(lambda: worker.done == Counter([1]), "it is done", seconds=SECONDS)
        await eventually(lambda: settled(broker) == 2, "both are settled", seconds=SECONDS)
        server.flush()
        publish(broker, 1)
        await eventually(lambda: settled(broker) == 4, "all are settled", seconds=SECONDS)
        runtime.stop()
    assert worker.done == Counter({1: 2})


@pytest.mark.slow
async def test_without_its_store_a_worker_may_go_on(own_redis: OwnRedis) -> None:
    """`without_store="run"`: copies are worked on too while it is away, and nothing waits for it."""
    server, broker = own_redis(durable=True), MemoryBroker()
    worker = Orders(broker, server.url, without_store="run")
    worker.config = WorkerConfig(middleware=[worker.config.given()["middleware"][1]], drain_timeout=10)  # type: ignore[union-attr]
    runtime = Runtime(worker, environ={}, registry=Registry())
    async with anyio.create_task_group() as group:
        group.start_soon(runtime.run)
        publish(broker, 1)
        await eventually(lambda: worker.done == Counter([1]), "it is done", seconds=SECONDS)
        server.kill()
        publish(broker, 2)
        await eventually(lambda: worker.done[2] == 2, "both copies are worked on", seconds=SECONDS)
        runtime.stop()
