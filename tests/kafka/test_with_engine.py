"""The plugin under the real engine: what is published is processed, through stops, rebalances, crashes and outages."""

import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import pytest

from pythia_core import Message, Output, Reject, RetryPolicy
from pythia_core.engine.engine import Engine
from pythia_kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from tests.kafka.driving import MakeTopic, Publisher, committed, read
from tests.kafka.engines import FAST, ends, make_engine, running
from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually


async def test_everything_is_processed_and_committed(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, admin: KafkaAdmin
) -> None:
    """Once each; by Kafka's own tool nothing is left."""
    topic = await make_topic(4)
    await publisher.publish(topic, 5_000, partition=None, keys=97)
    seen: Counter[int] = Counter()

    async def count(message: Message[Any]) -> None:
        seen[message.body["n"]] += 1

    engine = make_engine(kafka_server.address, topic, count)
    async with running(engine):
        await eventually(lambda: len(seen) == 5_000, "all were seen")
    assert set(seen.values()) == {1}
    assert engine.stats.settled == 5_000
    rows = await anyio.to_thread.run_sync(kafka_server.describe_group, f"{topic}-workers")
    assert [row["LAG"] for row in rows] == ["0"] * 4
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 0


async def test_what_kafkas_own_client_wrote_is_read(kafka_server: KafkaServer, make_topic: MakeTopic) -> None:
    """Its VerifiableProducer says of each message where it went; that is what is handed over."""
    topic = await make_topic(2)
    events = await anyio.to_thread.run_sync(kafka_server.verifiable_producer, topic, 500)
    sent = {
        event["value"]: (event["partition"], event["offset"])
        for event in events
        if event["name"] == "producer_send_success"
    }
    assert len(sent) == 500
    seen: dict[str, Any] = {}

    async def note(message: Message[Any]) -> None:
        seen[message.raw.decode()] = (message.partition.partition, message.position)  # type: ignore[attr-defined]

    async with running(make_engine(kafka_server.address, topic, note)):
        await eventually(lambda: len(seen) == 500, "all were seen")
    assert seen == sent


async def test_a_stop_under_load_repeats_nothing(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """A rolling restart: what was begun is finished and committed, the rest is the next one's."""
    topic = await make_topic(2)
    await publisher.publish(topic, 400, partition=None, keys=10)
    seen: Counter[str] = Counter()

    async def slow(message: Message[Any]) -> None:
        await anyio.sleep(0.005)
        seen[message.id] += 1

    first, second = (make_engine(kafka_server.address, topic, slow) for _ in range(2))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await eventually(lambda: len(seen) >= 20, "the first was at work")
        first.stop()
        group.start_soon(second.run)
        await eventually(lambda: len(seen) == 400, "all were seen", seconds=30)
        second.stop()
    assert first.stats.released > 100
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("head", ["sleeps", "waits for its retry"])
async def test_a_stop_with_a_stuck_head_repeats_nothing(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, head: str
) -> None:
    """Under load, in two partitions: the note beside the committed offset says what is done behind it, and its attempts."""
    topic = await make_topic(2)
    for partition in (0, 1):
        await publisher.publish(topic, 300, partition=partition, keys=300)
    seen: Counter[str] = Counter()
    attempts: dict[str, list[int]] = defaultdict(list)
    told = anyio.Event()

    async def work(message: Message[Any]) -> None:
        if message.body["n"] == 0:
            attempts[message.id].append(message.attempt)
            if head == "sleeps":
                await told.wait()
            elif len(attempts[message.id]) < 3:
                raise ConnectionError("not now")
        else:
            await anyio.sleep(0.002)
        seen[message.id] += 1

    patient = attrs.evolve(FAST, drain_timeout=1.0, retry=RetryPolicy(attempts=9, base=1.0, cap=1.0))
    first, second = (make_engine(kafka_server.address, topic, work, patient) for _ in range(2))
    async with running(first):
        await eventually(lambda: len(attempts) == 2 and 100 <= len(seen), "it was at work")
    assert len(seen) < 598
    noted = await committed(kafka_server.address, f"{topic}-workers")
    assert [offset for offset, note in noted.values() if note] == [0, 0]
    told.set()
    async with running(second):
        await eventually(lambda: len(seen) == 600, "all were seen", seconds=20)
    assert set(seen.values()) == {1}
    assert [*attempts.values()] == [[1, 1] if head == "sleeps" else [1, 2, 3]] * 2
    assert await ends(kafka_server.address, topic) == {0: 300, 1: 300}


async def test_members_that_come_and_go_under_load_repeat_nothing(
    kafka_server: KafkaServer, make_topic: MakeTopic
) -> None:
    """Two to five, one joining or leaving every second or so: always progress, nothing lost, in order, nothing twice."""
    topic, total = await make_topic(6), 3_000
    seen: Counter[int] = Counter()
    order: dict[Any, list[int]] = defaultdict(list)

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.002)
        seen[message.body["n"]] += 1
        order[message.key].append(message.body["n"])

    async def publish() -> None:
        async with Publisher.connected(kafka_server.address) as mine:
            for start in range(0, total, 50):
                await mine.publish(topic, 50, start=start, partition=None, keys=60)
                await anyio.sleep(0.1)

    def progressed(before: int) -> bool:
        return len(seen) > before + 100

    members: list[Engine] = []
    async with anyio.create_task_group() as group:

        def join() -> None:
            members.append(make_engine(kafka_server.address, topic, work, session_timeout=3.0))
            group.start_soon(members[-1].run)

        join()
        join()
        group.start_soon(publish)
        for change in (+1, +1, -1, +1, -1, -1):
            before = len(seen)
            if change > 0:
                join()
            else:
                members.pop(0).stop()
            await eventually(partial(progressed, before), "there was progress", seconds=30)
        await eventually(lambda: len(seen) == total, "all were seen", seconds=60)
        for member in members:
            member.stop()
    assert set(seen.values()) == {1}
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert sum((await ends(kafka_server.address, topic)).values()) == total


async def test_work_that_does_not_finish_is_done_by_the_next_owner(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """A revoke waits for half of the rebalance timeout; what hangs is then done again, and its late end changes nothing."""
    topic = await make_topic(2)
    for partition in (0, 1):
        await publisher.publish(topic, 1, partition=partition)
    started: Counter[str] = Counter()
    release = anyio.Event()
    done: list[str] = []

    async def hang(message: Message[Any]) -> None:
        started[message.id] += 1
        if started[message.id] == 1:
            with anyio.CancelScope(shield=True):
                await release.wait()
        done.append(message.id)

    options: dict[str, Any] = {"rebalance_timeout": 3.0}
    settings = attrs.evolve(FAST, drain_timeout=1.0)
    first, second = (make_engine(kafka_server.address, topic, hang, settings, **options) for _ in range(2))
    async with running(first):
        await eventually(lambda: len(started) == 2, "both had begun", seconds=30)
        async with running(second):
            try:
                await eventually(lambda: max(started.values()) == 2, "one was begun again", seconds=30)
            finally:
                release.set()
            await eventually(lambda: len(done) >= 3, "all had ended")
    assert sum((await ends(kafka_server.address, topic)).values()) == 2


async def test_outputs_are_written_before_the_input_is_committed(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """Stage by stage, in batches, in the order of each key."""
    topic, target = await make_topic(2), await make_topic(2)
    await publisher.publish(topic, 1_000, partition=None, keys=7)

    async def double(message: Message[Any]) -> Any:
        return Output(None, {"n": 2 * message.body["n"]}, key=str(message.key))

    async with KafkaProducer(target, bootstrap_servers=kafka_server.address) as sink:
        engine = make_engine(kafka_server.address, topic, double, sink=sink)
        async with running(engine):
            await eventually(lambda: engine.stats.settled == 1_000, "all were settled", seconds=20)
    records = await read(kafka_server.address, target, 1_000)
    by_key: dict[bytes, list[bytes]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(record.value)
    assert by_key == {b"k%d" % key: [b'{"n":%d}' % (2 * n) for n in range(key, 1_000, 7)] for key in range(7)}


async def test_dead_letters_go_to_their_natural_place(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """The topic is made; what cannot be decoded goes there too, and the others are processed."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    await publisher.producer.send_and_wait(topic, b"{", partition=0)
    done: list[int] = []

    async def picky(message: Message[Any]) -> None:
        if message.body["n"] == 3:
            raise Reject("unlucky")
        done.append(message.body["n"])

    place = KafkaConsumer(topic, bootstrap_servers=kafka_server.address).dead_letters()
    assert place is not None
    async with place[0] as sink:
        await sink.check()
        engine = make_engine(kafka_server.address, topic, picky, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: engine.stats.settled == 11, "all were settled")
    letters = await read(kafka_server.address, f"{topic}.dlq", 2)
    assert sorted(letter.value for letter in letters) == [b"{", b'{"n": 3}']
    headers = dict(letters[0].headers)
    assert (headers["pythia-source"], headers["pythia-partition"]) == (topic.encode(), f"{topic}-0".encode())
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_messages_of_a_key_run_in_their_order(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """Never two of one at once, also where one of them has to be tried again; other keys flow. That is the default."""
    topic = await make_topic(3)
    keys, total = 20, 1_000
    await publisher.publish(topic, total, partition=None, keys=keys)
    done: dict[Any, list[int]] = defaultdict(list)
    at_work: Counter[Any] = Counter()
    overlaps: list[Any] = []

    async def work(message: Message[Any]) -> None:
        at_work[message.key] += 1
        if at_work[message.key] > 1:
            overlaps.append(message.key)
        await anyio.lowlevel.checkpoint()
        at_work[message.key] -= 1
        if message.body["n"] % 97 == 5 and message.attempt == 1:
            raise ValueError("busy")
        done[message.key].append(message.body["n"])

    engine = make_engine(kafka_server.address, topic, work)
    async with running(engine):
        await eventually(lambda: engine.stats.settled == total, "all were settled")
    assert engine.stats.retried > 0
    assert overlaps == []
    assert done == {f"k{key}": list(range(key, total, keys)) for key in range(keys)}


async def test_a_parked_message_holds_back_only_its_key(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """The offset stays before it while all the others are done."""
    topic = await make_topic()
    await publisher.publish(topic, 100, keys=10)
    done: set[int] = set()

    async def work(message: Message[Any]) -> None:
        if message.body["n"] == 0 and message.attempt == 1:
            raise ValueError("later")
        done.add(message.body["n"])

    settings = attrs.evolve(FAST, retry=RetryPolicy(attempts=9, base=3600, cap=3600))
    engine = make_engine(kafka_server.address, topic, work, settings)
    async with running(engine):
        await eventually(lambda: len(done) == 90, "all the other keys were done")
        assert (await ends(kafka_server.address, topic)).get(0, 0) == 0


async def test_a_restart_of_the_broker_is_ridden_out(own_kafka: OwnKafka) -> None:
    """Workers stay alive and go on with what they have; nothing is lost."""
    server = own_kafka()
    seen: set[int] = set()

    async def count(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    async with KafkaAdmin(bootstrap_servers=server.address) as admin:
        await admin.create_topic("orders", partitions=2)
    engine = make_engine(server.address, "orders", count, session_timeout=180.0)
    async with running(engine):
        async with Publisher.connected(server.address) as publisher:
            await publisher.publish("orders", 500, partition=None)
        await eventually(lambda: len(seen) == 500, "the first half was seen")
        server.kill()
        await anyio.to_thread.run_sync(server.start)
        async with Publisher.connected(server.address) as publisher:
            await publisher.publish("orders", 500, start=500, partition=None)
        await eventually(lambda: len(seen) == 1_000, "the second half was seen", seconds=30)
        await eventually(lambda: engine.stats.settled >= 1_000, "all were settled", seconds=30)
    assert engine.stats.subscriptions == 1
    assert sum((await ends(server.address, "orders")).values()) == 1_000


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_long_outage_makes_it_not_ready_and_ends(own_kafka: OwnKafka, how: str) -> None:
    """Gone or frozen: a third of the session without an answer ends the subscription; the engine subscribes anew."""
    server = own_kafka()
    seen: set[int] = set()

    async def count(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    async with KafkaAdmin(bootstrap_servers=server.address) as admin:
        await admin.create_topic("orders")
    async with Publisher.connected(server.address) as publisher:
        await publisher.publish("orders", 10)
    engine = make_engine(server.address, "orders", count)
    async with running(engine):
        await eventually(lambda: len(seen) == 10, "the first were seen")
        await eventually(lambda: engine.health().ready, "it was ready")
        getattr(server, how)()
        await eventually(lambda: not engine.health().ready, "it was not ready", seconds=20)
        assert engine.health().live
        await anyio.to_thread.run_sync(server.start if how == "kill" else server.resume)
        await eventually(lambda: engine.health().ready, "it was ready again", seconds=40)
        async with Publisher.connected(server.address) as publisher:
            await publisher.publish("orders", 10, start=10)
        await eventually(lambda: len(seen) == 20, "the others were seen", seconds=30)
    assert engine.stats.subscriptions >= 2


ZOMBIE = """
import os, sys
import anyio
from pythia_core import Settings, Start
from pythia_core.engine.engine import Engine
from pythia_kafka import KafkaConsumer

async def work(message):
    os.write(1, b"%d\\n" % message.position)
    await anyio.sleep(0.2)

topic, address = sys.argv[1:]
source = KafkaConsumer(topic, consumer_group=topic + "-workers", bootstrap_servers=address,
                       session_timeout=2.0, rebalance_timeout=4.0)
engine = Engine(source.resolve(Start(worker="w")), work, Settings(batch_timeout=0.1, drain_timeout=1, order="partition"))
anyio.run(engine.run)
"""


async def test_a_worker_frozen_beyond_its_session_changes_nothing_when_it_wakes(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, tmp_path: Path
) -> None:
    """Another one has gone on by then; the committed offset never goes back to where the sleeper thinks it is."""
    topic = await make_topic()
    await publisher.publish(topic, 60)
    log = (tmp_path / "log").open("wb")
    command = [sys.executable, "-c", ZOMBIE, topic, kafka_server.address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        printed = [await anyio.to_thread.run_sync(process.stdout.readline) for _ in range(3)]
        os.kill(process.pid, signal.SIGSTOP)
        seen: set[int] = set()

        async def work(message: Message[Any]) -> None:
            await anyio.sleep(0.05)
            seen.add(message.position)

        offsets: list[int] = []
        engine = make_engine(kafka_server.address, topic, work, session_timeout=2.0, rebalance_timeout=6.0)
        async with running(engine):
            await eventually(lambda: len(seen) > 20, "the other went on", seconds=20)
            os.kill(process.pid, signal.SIGCONT)
            with anyio.fail_after(60):
                while not offsets or offsets[-1] < 60:
                    offsets.append((await ends(kafka_server.address, topic)).get(0, 0))
                    await anyio.sleep(0.05)
    finally:
        process.kill()
        printed += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        log.close()
    assert offsets == sorted(offsets)
    assert seen | {int(line) for line in printed} == set(range(60))
