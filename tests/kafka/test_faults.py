"""What breaks between a worker and its brokers: cut lines, lost answers, dead letters refused, rights taken away."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiokafka.errors import KafkaError

from pythia_core import Message, Output, Reject, SubscriptionLost, WriteResult
from pythia_kafka import KafkaAdmin, KafkaProducer
from tests.descriptors import no_file_descriptors
from tests.kafka.driving import MakeTopic, Member, Members, Publisher, committed, read
from tests.kafka.engines import FAST, ends, make_engine, running
from tests.servers.fixtures import start
from tests.servers.kafka import KafkaServer
from tests.servers.proxy import Proxy
from tests.servers.server import free_port
from tests.waiting import eventually

CANARY = "hunter2"


@pytest.fixture(scope="module")
def proxied(request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    """A broker that clients find behind a proxy, which each test puts there."""
    server = KafkaServer(proxy=free_port())
    start(server, request.config)
    yield server
    server.close()


@pytest.fixture
async def proxy(proxied: KafkaServer) -> AsyncIterator[Proxy]:
    """The proxy before it."""
    async with Proxy.before(proxied.behind, port=proxied.proxy) as proxy:
        yield proxy


async def filled(server: KafkaServer, topic: str, count: int, partitions: int = 1) -> None:
    """Make a topic with so many messages."""
    async with KafkaAdmin(bootstrap_servers=server.address) as admin:
        await admin.create_topic(topic, partitions=partitions)
    async with Publisher.connected(server.address) as publisher:
        await publisher.publish(topic, count, partition=None)


def more_connections(proxy: Proxy, than: int) -> bool:
    """Tell whether somebody has connected anew."""
    return proxy.connections > than


# -- the line ----------------------------------------------------------------------------------------------------


async def test_a_connection_cut_at_any_byte_loses_nothing(proxied: KafkaServer, proxy: Proxy) -> None:
    """Within a size, a header, a batch, a commit: half a record is never delivered, and each one is, once."""
    await filled(proxied, "cut", 1_500, partitions=2)
    seen: Counter[int] = Counter()

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.05)
        seen[message.body["n"]] += 1

    engine = make_engine(proxy.address, "cut", work, max_partition_fetch_bytes=2_000, session_timeout=30.0)
    async with running(engine):
        await eventually(lambda: len(seen) > 10, "it was at work", seconds=20)
        for at, what in [(2, "answer"), (21, "answer"), (777, "answer"), (3, "request"), (60, "request")]:
            before = proxy.connections
            proxy.cut_after(at, what)
            await eventually(partial(more_connections, proxy, before), "it was cut", seconds=30)
        await eventually(lambda: engine.stats.settled == 1_500, "all were settled", seconds=30)
    assert set(seen.values()) == {1}
    assert sum((await ends(proxied.address, "cut")).values()) == 1_500


async def test_a_commit_whose_answer_is_lost_is_made_again(proxied: KafkaServer, proxy: Proxy) -> None:
    """The broker has executed it; a second time changes nothing, and the member goes on."""
    await filled(proxied, "lost", 2)
    async with Member.join("lost", bootstrap_servers=proxy.address) as member:
        await member.receive(2)
        proxy.lose_answer_to("canary")
        with pytest.raises(KafkaError):  # whatever is raised means unknown, and the engine settles again
            await member.commit(1, note="canary")
        assert proxy.swallowed > 0
        assert await member.commit(1, note="canary") == []
        assert await committed(proxied.address, "lost-workers") == {0: (1, "canary")}
        assert await member.commit(2) == []
    assert await committed(proxied.address, "lost-workers") == {0: (2, "")}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["silent", "gone"])
async def test_a_stop_does_not_wait_for_brokers_that_do_not_answer(
    proxied: KafkaServer, proxy: Proxy, how: str
) -> None:
    """It gives up its last commit after the drain and leaves without a word; what was not committed is done again."""
    await filled(proxied, f"stop-{how}", 300, partitions=2)
    seen: set[str] = set()

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.05)
        seen.add(message.id)

    async with running(make_engine(proxy.address, f"stop-{how}", work)):
        await eventually(lambda: len(seen) > 20, "it was at work")
        if how == "silent":
            proxy.stall()
        else:
            proxied.kill()
        began = anyio.current_time()
    assert anyio.current_time() - began < FAST.drain_timeout + 10.0
    if how == "silent":
        proxy.resume()
    else:
        await anyio.to_thread.run_sync(proxied.start)
    async with running(make_engine(proxy.address, f"stop-{how}", work)):
        await eventually(lambda: len(seen) == 300, "all were seen", seconds=60)


@pytest.mark.slow
async def test_a_slow_handler_keeps_its_partition(make_topic: MakeTopic, kafka_server: KafkaServer) -> None:
    """For longer than a session and a rebalance: heartbeats go on, nobody else is given it, and it is done once."""
    topic = await make_topic()
    seen: Counter[int] = Counter()

    async def slow(message: Message[Any]) -> None:
        if message.body["n"] == 0:
            await anyio.sleep(6.0)
        seen[message.body["n"]] += 1

    async with Publisher.connected(kafka_server.address) as publisher:
        await publisher.publish(topic, 20, keys=20)
    engine = make_engine(kafka_server.address, topic, slow, session_timeout=3.0, rebalance_timeout=5.0)
    async with running(engine):
        await eventually(lambda: engine.stats.settled == 20, "all were settled")
    assert seen == Counter(range(20))
    assert (engine.stats.assigned, engine.stats.lost, engine.stats.subscriptions) == (1, 0, 1)


async def test_a_process_without_file_descriptors_comes_back(
    make_topic: MakeTopic, publisher: Publisher, members: Members
) -> None:
    """A connection that cannot be made is an outage like any other: nothing is lost."""
    topic = await make_topic()
    await publisher.publish(topic, 4)
    member = await members(topic)
    assert len(await member.receive(2)) == 2
    for connection in list(member.subscription._client._consumer._client._conns.values()):
        connection.close()
    with no_file_descriptors():
        assert len(await member.receive(2)) == 2  # which had come in before
        assert await member.fetch() == []
        with pytest.raises((SubscriptionLost, KafkaError)):
            await member.commit(2)
    await publisher.publish(topic, 1, start=4)
    (message,) = await member.receive()
    assert message.position == 4
    assert await member.commit(5) == []


# -- dead letters cannot be written ------------------------------------------------------------------------------


async def picky(message: Message[Any]) -> None:
    """Reject one of ten."""
    if message.body["n"] == 3:
        raise Reject("unlucky")


async def test_a_message_whose_dead_letter_cannot_be_written_stays(
    kafka_server: KafkaServer,
    make_topic: MakeTopic,
    publisher: Publisher,
    admin: KafkaAdmin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never committed before; the others are processed, and it comes through once there is a topic again."""
    topic = await make_topic()
    place, address = f"{topic}.dlq", kafka_server.address
    tried: list[int] = []
    write = KafkaProducer.write

    async def counted(self: KafkaProducer, outputs: Sequence[Output]) -> WriteResult:
        tried.append(len(outputs))
        return await write(self, outputs)

    monkeypatch.setattr(KafkaProducer, "write", counted)
    async with KafkaProducer(place, bootstrap_servers=address, create_topic=True, delivery_timeout=1) as sink:
        await sink.check()
        await admin.delete_topic(place)
        await publisher.publish(topic, 10)
        engine = make_engine(address, topic, picky, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: len(tried) > 2, "it was tried again and again", seconds=30)
            assert engine.stats.settled < 10
            assert (await ends(address, topic)).get(0, 0) <= 3
            await admin.create_topic(place)
            await eventually(lambda: engine.stats.settled == 10, "all were settled", seconds=30)
    assert await ends(address, topic) == {0: 10}
    (letter,) = await read(address, place, 1)
    assert letter.value == b'{"n": 3}'


async def test_a_dead_letter_that_is_refused_for_good_stops_its_partition(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, admin: KafkaAdmin
) -> None:
    """A topic that takes no message of its size: the worker says so and keeps the message, for whoever mends that."""
    topic = await make_topic()
    place, address = f"{topic}.dlq", kafka_server.address
    await publisher.publish(topic, 10)
    await admin.create_topic(place, config={"max.message.bytes": "1"})
    async with KafkaProducer(place, bootstrap_servers=address) as sink:
        engine = make_engine(address, topic, picky, dead_letter=sink)
        async with running(engine):
            said = f"{place} can never take"
            await eventually(lambda: said in str(engine.health().reasons), "it said so", seconds=20)
            assert not engine.health().ready
        assert (await ends(address, topic)).get(0, 0) <= 3
        await admin.delete_topic(place)
        await admin.create_topic(place)
        engine = make_engine(address, topic, picky, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: engine.stats.settled > 0, "the rest was settled", seconds=20)
    assert await ends(address, topic) == {0: 10}
