"""The bound on the processors' time in a real process, whose own handlers use them."""

import threading
import time
from typing import Any

import anyio
import pytest

from pythia_core import Message, Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from tests.waiting import eventually

LOCK = threading.Lock()


class Computes(Worker[int]):
    """Computes in threads, and counts how many do at once."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(source=MemoryConsumer("numbers", broker=broker))
        self.now = self.most = self.done = 0

    def process(self, message: Message[int]) -> None:  # type: ignore[override]
        """Use a processor for 50 ms."""
        with LOCK:
            self.now += 1
            self.most = max(self.most, self.now)
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        with LOCK:
            self.now -= 1
            self.done += 1


def runtime_of(worker: Worker[Any], bound: float) -> Runtime:
    """Return what runs it with eight threads."""
    config = WorkerConfig(max_cpu_percent=bound, max_concurrent_tasks=8, drain_timeout=5)
    worker.config = config
    return Runtime(worker, environ={}, registry=Registry())


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_handlers_that_compute_are_run_one_by_one_once_the_processors_are_busy() -> None:
    """With a bound that is always passed: eight at once become one, with the reason in health, and every message is done."""
    broker = MemoryBroker()
    for number in range(120):
        broker.publish("numbers", str(number).encode())
    runtime = runtime_of(worker := Computes(broker), 0.001)
    async with anyio.create_task_group() as group:
        group.start_soon(runtime.run)
        await eventually(lambda: worker.most > 1, "several compute at once")
        fewer = lambda: runtime._engine is not None and runtime._engine.pool.places.benched == 7
        await eventually(fewer, "seven of eight workers are on the bench", seconds=30)
        assert "intake stopped: processors busy" in runtime.health().reasons
        worker.most = 0
        before = worker.done
        await eventually(lambda: worker.done > before + 3, "more was done")
        assert worker.most <= 2  # one that was counted when it was set back, at the most
        await eventually(lambda: worker.done == 120, "every message is done", seconds=60)
        runtime.stop()
    assert len(broker.settled("numbers", "computes")) == 120
