"""What the guide's workers say of scaling is so."""

from typing import Any

import anyio
import anyio.lowlevel
import psutil
import pytest

from pythia import Message
from pythia.brokers.kafka import KafkaConsumer
from tests.guide.conftest import MakeTopics
from tests.guide.running import load, serving
from tests.kafka.driving import Publisher


@pytest.mark.parametrize(
    ("busy", "up", "down"), [(95.0, True, False), (50.0, False, False), (5.0, False, True)]
)
async def test_the_cpu_decides_what_a_worker_says_of_scaling(
    busy: float, up: bool, down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above its threshold it wants one more, below 30 % one less, and between them it is content."""
    asked: list[float] = []

    def cpu_percent(interval: float) -> float:
        asked.append(interval)
        return busy

    monkeypatch.setattr(psutil, "cpu_percent", cpu_percent)
    worker = load("cpu_scaling.py").AutoScalingWorker()
    assert (await worker.should_scale_up(), await worker.should_scale_down()) == (up, down)
    assert asked == [1, 1]


async def test_the_lag_decides_what_a_worker_says_of_scaling(
    make_topics: MakeTopics, publisher: Publisher
) -> None:
    """A running worker's admin counts what its group has left: 1,001 messages are too many, and none are not."""
    await make_topics("orders")
    await publisher.publish("orders", 1001)
    started, go = anyio.Event(), anyio.Event()

    async def process(message: Message[Any]) -> None:
        started.set()
        await go.wait()

    worker = load("queue_scaling.py").QueueBasedScaling(
        source=KafkaConsumer("orders", consumer_group="order-processors")
    )
    worker.process = process
    async with serving(worker):
        await started.wait()
        assert await worker.check_consumer_lag()
        go.set()
        with anyio.fail_after(20):
            while await worker.check_consumer_lag():
                await anyio.lowlevel.checkpoint()
