"""A load test measures what a worker does under a steady load, in memory and in processes on a real broker."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from redis import Redis

from pythia import Message, Output, Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.testing import LoadResults, LoadTester, Progress
from pythia_core import ConfigError, Sink, WriteResult
from pythia_core.testing.arrivals import Arrivals
from pythia_core.testing.crew import LoadTestError
from pythia_core.testing.recording import HEADER, sends_handed_on
from tests.load import workers
from tests.servers.redis import RedisServer


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: the broker's client knows no other, and the recording is the same."""
    return "asyncio"


async def load(kind: type[Worker[Any]] | Sequence[type[Worker[Any]]], **options: Any) -> LoadResults:
    """Put a load on a worker, half a second of it unless told otherwise."""
    options = {
        "messages_per_second": 400,
        "duration_seconds": 0.5,
        "keys": 5,
        "drain_seconds": 0.5,
        **options,
    }
    return await LoadTester(worker_class=kind, **options).run()


async def test_a_good_worker_is_proven_good() -> None:
    """All that was sent is processed, once, in order; at the pace it was sent, and not faster."""
    seen: list[Progress] = []
    results = await load(workers.Good, watch=seen.append)
    assert results.proven
    assert (results.messages, results.sent, results.done, results.order_violations) == (200, 200, 200, 0)
    assert results.avg_throughput == pytest.approx(400, rel=0.2)
    assert results.error_rate == 0
    assert seen[-1].total == 200


async def test_failures_are_counted_and_lose_nothing() -> None:
    """A tenth of the attempts failed and their messages are dead; what was skipped is done."""
    results = await load(workers.Failing)
    assert (results.done, results.failed, results.lost) == (180, 20, 0)
    assert results.error_rate == 0.1
    assert not results.proven


async def test_a_batch_counts_by_message() -> None:
    """A failure by index is one error, and its neighbours are done."""
    results = await load(workers.Batches)
    assert (results.done, results.failed, results.lost, results.errors) == (180, 20, 0, 20)


async def test_messages_come_whether_or_not_the_worker_keeps_up() -> None:
    """At twice what it can do, the last message has waited for half of the time that all of them took."""
    results = await load(workers.Slow, messages_per_second=200, duration_seconds=1.0)
    assert results.done == 200
    assert results.seconds > 1.9
    assert results.latency(100) > 0.9
    assert results.avg_latency > 0.4


async def test_latency_counts_from_the_time_of_sending_that_was_meant() -> None:
    """A sink that takes 0.1 s for a write holds messages up before they are sent, and that is not hidden."""
    arrivals = Arrivals("run", rate=1000, total=300, keys=1, body=lambda number: number)
    written: list[Output] = []

    class Slow(MemoryProducer):
        async def write(self, outputs: Sequence[Output]) -> WriteResult:
            await anyio.sleep(0.1)
            written.extend(outputs)
            return WriteResult(range(len(outputs)))

    await arrivals.send(Slow("slow"))
    headers: list[Any] = [output.headers for output in written]
    times = [float(header[HEADER].split()[2]) for header in headers]
    assert times == pytest.approx([arrivals.began + number / 1000 for number in range(300)])
    assert arrivals.confirmed == set(range(300))


async def test_bodies_are_made_by_the_factory(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies, keys and a header by which a message is known again are in the stream that the worker reads."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    results = await load(workers.OnRedis, num_workers=2, message_factory=lambda number: {"order": number})
    assert results.proven
    assert results.order_violations is None  # Redis deals entries out
    assert len(results.by_worker) == 2 and sum(results.by_worker) == 200
    with Redis(port=redis_server.port) as client:
        entries: Any = client.xrange("load")
        assert client.xpending("load", "on-redis")["pending"] == 0
    assert [fields[b"body"] for _, fields in entries] == [b'{"order":%d}' % number for number in range(200)]
    assert [fields[b"key"] for _, fields in entries] == [b"key-%d" % (number % 5) for number in range(200)]


async def test_a_pipeline_is_judged_from_end_to_end() -> None:
    """What a stage returned or sent itself is known at the last one; a failure of the first is an error, and no loss."""
    results = await load([workers.Pull, workers.Push, workers.Store])
    assert results.proven
    assert (results.done, results.order_violations, results.errors) == (200, 0, 20)
    assert results.by_worker == (220, 200, 200)
    assert results.error_rate == 20 / 620


async def test_a_message_that_a_stage_loses_is_found() -> None:
    """The first stages were done with it, and no worker of the last has seen it."""
    results = await load([workers.Pull, workers.Leaky, workers.Store])
    assert (results.done, results.lost, results.failed, results.proven) == (198, 2, 0, False)


async def test_the_stages_of_a_pipeline_are_processes_each(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of each stage, on a real broker, and the header goes from stream to stream."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    results = await load([workers.PullRedis, workers.StoreRedis], num_workers=2)
    assert results.proven and len(results.by_worker) == 4
    assert sum(results.by_worker[:2]) == sum(results.by_worker[2:]) == 200


async def test_sends_are_not_touched_after_a_test() -> None:
    """What is exchanged for a load test is put back, however it ends."""
    send = Sink.send
    with pytest.raises(ZeroDivisionError), sends_handed_on():
        assert Sink.send is not send
        1 / 0  # noqa: B018
    assert Sink.send is send


async def test_a_process_that_cannot_start_is_told_with_its_log(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the process and ends with what it said."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    with pytest.raises(LoadTestError, match=r"(?s)process 0 ended by itself with 1: .*no table is laid"):
        await load(workers.Broken)


async def test_a_class_that_no_process_can_import_is_refused() -> None:
    """One inside of a function is told so at once."""

    class Inner(workers.OnRedis):
        pass

    with pytest.raises(ConfigError, match="defined where another process cannot import it"):
        await load(Inner)


@pytest.mark.parametrize("name", ["num_workers", "messages_per_second", "duration_seconds", "keys"])
def test_numbers_are_checked(name: str) -> None:
    """Nothing of nothing is no load."""
    make: Any = LoadTester
    with pytest.raises(ConfigError, match=f"{name} is 0; it must be more than 0"):
        make(worker_class=workers.Good, **{name: 0})


async def test_a_source_made_by_the_worker_is_found() -> None:
    """Where the class names none, an instance does."""

    class Own(Worker[Any]):
        def __init__(self) -> None:
            super().__init__(source=MemoryConsumer("load-own"))

        async def process(self, message: Message[Any]) -> None:
            """Do nothing."""

    assert (await load(Own)).proven


async def test_a_class_is_made_no_more_often_than_it_has_to_be() -> None:
    """Once to ask where it reads, since the class does not say, and once to run."""
    made = 0

    class Counted(Worker[Any]):
        def __init__(self) -> None:
            nonlocal made
            made += 1
            super().__init__(source=MemoryConsumer("load-counted"))

        async def process(self, message: Message[Any]) -> None:
            """Do nothing."""

    assert (await load(Counted, messages_per_second=100, duration_seconds=0.1)).proven
    assert made == 2
