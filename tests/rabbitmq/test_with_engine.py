"""The plugin under the real engine: what is published is processed, through stops, crashes and outages."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

from pythia_core import Message, Output, Reject, WriteResult
from pythia_rabbitmq import RabbitMQConsumer, RabbitMQProducer
from tests.rabbitmq.driving import CLASSIC, FAST, Client, make_engine, running
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually


def more_than(seen: Counter[int], count: int) -> bool:
    """Tell whether more were seen."""
    return len(seen) > count


async def close_connections(server: RabbitServer, name: str) -> None:
    """Have the server close the connection of that name, which is there."""
    assert await anyio.to_thread.run_sync(server.close_connections, name) > 0


async def test_connections_closed_by_the_server_under_load(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """The worker comes back by itself, three times; nothing is lost, and all of it is settled in the end."""
    await client.declare(queue)
    seen: Counter[int] = Counter()

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.03)
        seen[message.body["n"]] += 1

    engine = make_engine(rabbitmq_server.url, queue, work)
    await client.publish(queue, 3_000)
    async with running(engine):
        for share in (100, 600, 1_200):
            await eventually(partial(more_than, seen, share), "it was under load", seconds=30)
            await eventually(lambda: engine.health().ready, "it was connected")
            await close_connections(rabbitmq_server, f"pythia {queue} read")
        await eventually(lambda: len(seen) == 3_000, "all were seen", seconds=30)
        await eventually(lambda: engine.stats.in_flight == 0, "all were done")
        await eventually(lambda: engine.stats.subscriptions == 4, "it had come back", seconds=20)
    assert await client.depth(queue) == 0
    assert sum(seen.values()) <= 3_000 + 3 * 200  # what was out: the prefetch


async def test_a_killed_broker_comes_back_under_load(frail_rabbitmq: RabbitServer, queue: str) -> None:
    """Without a restart of the worker; what was confirmed to the publisher is processed, and it is not ready meanwhile."""
    seen: Counter[int] = Counter()

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.03)
        seen[message.body["n"]] += 1

    engine = make_engine(frail_rabbitmq.url, queue, work)
    async with running(engine):
        await eventually(lambda: engine.health().ready, "it was ready", seconds=20)
        made = (
            anyio.current_time()
        )  # RabbitMQ 3.10 loses what is in a quorum queue made within a second of a kill
        await eventually(lambda: anyio.current_time() > made + 2, "the queue can outlive a kill")
        async with Client.connected(frail_rabbitmq.url) as client:
            await client.publish(queue, 2_000)
        await eventually(lambda: len(seen) > 100, "it was under load")
        frail_rabbitmq.kill()
        await eventually(lambda: not engine.health().ready, "it was not ready")
        await anyio.to_thread.run_sync(frail_rabbitmq.start)
        await eventually(lambda: len(seen) == 2_000, "all were seen", seconds=60)
        assert engine.health().ready
    assert sum(seen.values()) <= 2_000 + 200


async def test_a_stop_gives_back_what_has_not_started(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """At once, to the other worker, so that a rolling restart repeats nothing and marks nothing as failed."""
    await client.declare(queue)
    await client.publish(queue, 400)
    seen: Counter[int] = Counter()
    attempts: Counter[int] = Counter()

    async def slow(message: Message[Any]) -> None:
        await anyio.sleep(0.01)
        seen[message.body["n"]] += 1
        attempts[message.attempt] += 1

    first, second = (make_engine(rabbitmq_server.url, queue, slow) for _ in range(2))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await eventually(lambda: len(seen) >= 20, "the first was at work")
        first.stop()
        group.start_soon(second.run)
        await eventually(lambda: len(seen) == 400, "all were seen", seconds=20)
        second.stop()
    assert first.stats.released > 50
    assert set(seen.values()) == {1}
    assert set(attempts) == {1}
    assert await client.depth(queue) == 0


async def test_outputs_are_written_before_the_input_is_settled(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """Stage by stage, in batches."""
    await client.declare(queue)
    await client.declare(f"{queue}-out")
    await client.publish(queue, 1_000)

    async def double(message: Message[Any]) -> Any:
        return Output(None, {"n": 2 * message.body["n"]})

    async with RabbitMQProducer(queue=f"{queue}-out", url=rabbitmq_server.url) as sink:
        engine = make_engine(rabbitmq_server.url, queue, double, sink=sink)
        async with running(engine):
            await client.wait_for_depth(f"{queue}-out", 1_000)
    bodies = [message.body for message in await client.drain(f"{queue}-out")]
    assert sorted(bodies) == sorted(b'{"n":%d}' % (2 * n) for n in range(1_000))
    assert await client.depth(queue) == 0


async def test_dead_letters_go_to_their_natural_place(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """With where they came from and why; what cannot be decoded goes there too, and the others are processed."""
    await client.declare(queue)
    await client.publish(queue, 10)
    await client.send(queue, b"{")
    done: list[int] = []

    async def picky(message: Message[Any]) -> None:
        if message.body["n"] == 3:
            raise Reject("unlucky")
        done.append(message.body["n"])

    place = RabbitMQConsumer(queue, url=rabbitmq_server.url, **CLASSIC).dead_letters()
    assert place is not None
    sink, _ = place
    async with sink:
        await sink.check()
        engine = make_engine(rabbitmq_server.url, queue, picky, dead_letter=sink)
        async with running(engine):
            await client.wait_for_depth(f"{queue}.dlq", 2)
    letters = await client.drain(f"{queue}.dlq")
    assert sorted(message.body for message in letters) == [b"{", b'{"n": 3}']
    assert {message.headers["pythia-source"] for message in letters} == {queue}
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert await client.depth(queue) == 0


@pytest.mark.parametrize("trouble", ["missing", "full"])
async def test_a_dead_letter_that_cannot_be_written_leaves_the_original(
    rabbitmq_server: RabbitServer,
    client: Client,
    queue: str,
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R9, R20: unacknowledged, until the place for it is there again; what follows is processed."""
    await client.declare(queue)
    await client.publish(queue, 5)
    place = f"{queue}.dlq"
    if trouble == "full":
        limits: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await client.channel.declare_queue(place, durable=True, arguments=limits)
        await client.send(place, b"in the way")
    done: list[int] = []

    async def picky(message: Message[Any]) -> None:
        if message.body["n"] == 2:
            raise Reject("unlucky")
        done.append(message.body["n"])

    async with RabbitMQProducer(queue=place, url=rabbitmq_server.url) as sink:
        results: list[WriteResult] = []
        write = sink.write

        async def noting(outputs: Sequence[Output]) -> WriteResult:
            results.append(await write(outputs))
            return results[-1]

        monkeypatch.setattr(sink, "write", noting)
        engine = make_engine(rabbitmq_server.url, queue, picky, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: len(done) == 4, "the others were done")
            await eventually(lambda: len(results) >= 2, "it was tried again")
            assert not any(result.confirmed for result in results)
            assert engine.stats.dead_lettered == 0
            assert engine.stats.in_flight == 1
            if trouble == "full":
                await client.drain(place)
            else:
                await client.declare(place)
            await client.wait_for_depth(place, 1, seconds=20)
        assert engine.stats.dead_lettered == 1
    assert await client.depth(queue) == 0


@pytest.mark.parametrize("prefetch", [1, 10, 10_000])
async def test_no_prefetch_stalls(
    rabbitmq_server: RabbitServer, client: Client, queue: str, prefetch: int
) -> None:
    """X5: what is done is settled at half the window and when idle, so that a small one costs little."""
    count = 300 if prefetch == 1 else 3_000
    await client.declare(queue)
    await client.publish(queue, count)
    seen: set[int] = set()

    async def work(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    settings = attrs.evolve(FAST, batch_timeout=1.0)
    engine = make_engine(rabbitmq_server.url, queue, work, settings, prefetch_count=prefetch)
    async with running(engine):
        began = anyio.current_time()
        await eventually(lambda: len(seen) == count, "all were seen", seconds=30)
        seconds = anyio.current_time() - began
    assert seconds < count / (20 if prefetch == 1 else 200)  # by the clock alone: one window a second
    assert await client.depth(queue) == 0


async def test_a_parked_first_message_stalls_nobody(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """X6: what is done behind it is acknowledged singly, and its own acknowledgement does no harm afterwards."""
    await client.declare(queue)
    await client.publish(queue, 1_000)
    seen: set[int] = set()
    release = anyio.Event()

    async def work(message: Message[Any]) -> None:
        if message.body["n"] == 0:
            await release.wait()
        seen.add(message.body["n"])

    engine = make_engine(rabbitmq_server.url, queue, work, prefetch_count=100)
    async with running(engine):
        await eventually(lambda: len(seen) == 999, "the others were seen", seconds=20)
        release.set()
        await eventually(lambda: engine.stats.settled == 1_000, "all were settled")
        assert engine.stats.subscriptions == 1
    assert await client.depth(queue) == 0


async def test_auto_ack_works_off_a_queue(rabbitmq_server: RabbitServer, client: Client, queue: str) -> None:
    """X8: each once, failures included, and nothing stays behind."""
    await client.declare(queue)
    await client.publish(queue, 500)
    seen: Counter[int] = Counter()

    async def work(message: Message[Any]) -> None:
        seen[message.body["n"]] += 1

    engine = make_engine(rabbitmq_server.url, queue, work, auto_ack=True, prefetch_count=10)
    async with running(engine):
        await eventually(lambda: len(seen) == 500, "all were seen", seconds=20)
    assert set(seen.values()) == {1}
    assert await client.depth(queue) == 0


async def test_a_silent_broker_is_noticed_by_its_heartbeat(frail_rabbitmq: RabbitServer, queue: str) -> None:
    """R6: three heartbeats and 3 s after its last word, so in 33 s by default; it is ridden out, and nothing is lost."""
    seen: set[int] = set()

    async def work(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    engine = make_engine(frail_rabbitmq.url, queue, work, heartbeat=1)
    async with running(engine):
        await eventually(lambda: engine.health().ready, "it was ready")
        frail_rabbitmq.pause()
        await eventually(lambda: not engine.health().ready, "it was noticed", seconds=10)
        frail_rabbitmq.resume()
        async with Client.connected(frail_rabbitmq.url) as client:
            await client.publish(queue, 10)
        await eventually(lambda: len(seen) == 10, "all were seen", seconds=40)


async def test_a_stop_does_not_wait_for_a_broker_that_is_silent(
    frail_rabbitmq: RabbitServer, queue: str
) -> None:
    """R3, R13: closing is cut short; what was not acknowledged goes back to the queue by itself."""

    async def work(message: Message[Any]) -> None:
        return None

    engine = make_engine(frail_rabbitmq.url, queue, work, attrs.evolve(FAST, drain_timeout=2))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: engine.health().ready, "it was ready")
        frail_rabbitmq.pause()
        engine.stop()
        began = anyio.current_time()
    assert anyio.current_time() - began < 6
    frail_rabbitmq.resume()


async def test_changed_credentials_are_an_error_without_a_secret(
    frail_rabbitmq: RabbitServer, queue: str
) -> None:
    """R16: one clear line, not ready meanwhile, and it comes back when they are right again."""
    passwords = ["guest"]

    async def work(message: Message[Any]) -> None:
        return None

    engine = make_engine(frail_rabbitmq.url, queue, work, password=lambda: passwords[-1])
    try:
        async with running(engine):
            await eventually(lambda: engine.health().ready, "it was ready", seconds=30)
            frail_rabbitmq.change_password("canary-5f2c")
            await close_connections(frail_rabbitmq, f"pythia {queue} read")
            await eventually(
                lambda: any("login was refused" in reason for reason in engine.health().reasons),
                "it was refused",
            )
            assert "canary" not in str(engine.health().reasons)
            passwords.append("canary-5f2c")
            await eventually(lambda: engine.health().ready, "it was ready again", seconds=30)
    finally:
        frail_rabbitmq.change_password("guest")
