"""The guide's configuration is what its workers run by."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from redis import Redis

from pythia import Message, Worker
from pythia.brokers.redis import RedisStreamsConsumer
from tests.guide.running import load, serving
from tests.servers.redis import RedisServer
from tests.waiting import eventually


class Together(Worker[Any]):
    """Lets handlers go on only when somebody says so."""

    source = RedisStreamsConsumer("numbers")

    async def startup(self) -> None:
        self.running, self.go = 0, anyio.Event()

    async def process(self, message: Message[Any]) -> None:
        self.running += 1
        await self.go.wait()
        self.running -= 1


class Batches(Worker[Any]):
    """Counts what comes at once."""

    source = RedisStreamsConsumer("numbers")

    async def startup(self) -> None:
        self.sizes: list[int] = []

    async def process_batch(self, messages: Sequence[Message[Any]]) -> None:
        self.sizes.append(len(messages))


def fill(server: RedisServer, count: int) -> None:
    """Write so many entries by the bare client."""
    with Redis(port=server.port) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.xadd("numbers", {"body": str(number)})
        pipeline.execute()


async def test_the_resource_configuration_is_what_a_worker_runs_by(redis: RedisServer) -> None:
    """Twenty messages are at work at once and no more; of a full stream a batch has five hundred and none has more."""
    config = load("resources.py").config
    assert (config.batch_size, config.batch_timeout, config.max_concurrent_tasks) == (500, 2.0, 20)
    assert (config.max_memory_mb, config.max_connections) == (2048, 50)
    fill(redis, 1100)
    together, batches = Together(config=config), Batches(config=config)
    async with serving(together):
        await eventually(lambda: getattr(together, "running", 0) >= 20, "twenty messages were at work")
        await anyio.wait_all_tasks_blocked()
        assert together.running == 20
        together.go.set()
        async with serving(batches):
            done = lambda: sum(getattr(batches, "sizes", ())) == 1100
            await eventually(done, "every entry came in a batch")
    assert max(batches.sizes) == 500


@pytest.mark.parametrize(
    ("environment", "batch_size", "tasks", "megabytes"),
    [("production", 1000, 50, 2048), ("staging", 500, 25, 1024), (None, 100, 10, 512)],
)
def test_the_environment_chooses_the_configuration(
    environment: str | None, batch_size: int, tasks: int, megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Production and staging have theirs, and everything else is development."""
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    if environment:
        monkeypatch.setenv("ENVIRONMENT", environment)
    config = load("environment.py").get_scaling_config()
    assert (config.batch_size, config.max_concurrent_tasks, config.max_memory_mb) == (
        batch_size,
        tasks,
        megabytes,
    )
