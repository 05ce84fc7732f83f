"""Kafka: Pythia beside a bare loop over aiokafka that gives the same guarantees, librdkafka's, and FastStream's."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import attrs
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from bench.harness import Bench, Contender, Goal
from bench.redis import BODY, COLLECTOR, handle, make_body
from bench.run import Run
from bench.watching import Watched
from pythia_core import Message, Settlement, Start
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from pythia_kafka import KafkaAdmin, KafkaConsumer
from tests.servers.kafka import KafkaServer

import_module("pythia_kafka.subscription")  # else while the clock runs, as nothing of the bare loop is

TOPIC = "bench"
PARTITIONS = 4
KEYS = 997
BATCH = 500  # Pythia's default, and the bare loop's


@contextmanager
def filled_server(messages: int) -> Iterator[Mapping[str, str]]:
    """Start a server whose topic holds the messages. Each contender reads them as a new group."""
    with KafkaServer() as server:
        asyncio.run(_fill(server.address, messages))
        yield {"servers": server.address}


async def _fill(servers: str, messages: int) -> None:
    async with KafkaAdmin(bootstrap_servers=servers) as admin:
        await admin.create_topic(TOPIC, partitions=PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5)
    await producer.start()
    try:
        for start in range(0, messages, 5000):
            sent = [
                await producer.send(TOPIC, make_body(number), key=b"k%d" % (number % KEYS))
                for number in range(start, min(start + 5000, messages))
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


def new_group() -> str:
    """Return a group that has read nothing."""
    return f"bench-{secrets.token_hex(4)}"


async def check(run: Run, group: str) -> None:
    """Check that all of it was committed."""
    async with KafkaAdmin(bootstrap_servers=run.place["servers"]) as admin:
        left = await admin.get_consumer_lag(group, TOPIC)
    if left:
        raise RuntimeError(f"not everything was committed: {left} messages are left")


# -- the bare clients --------------------------------------------------------------------------------------------


async def bare(run: Run) -> None:
    """Take 500, decode and handle each, commit once a second and at the end, as Pythia does."""
    group, rest = new_group(), run.messages
    consumer: Any = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=run.place["servers"],
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    done: dict[TopicPartition, int] = {}
    run.start()
    await consumer.start()
    try:
        committed = asyncio.get_running_loop().time()
        while rest:
            for partition, records in (await consumer.getmany(timeout_ms=500, max_records=BATCH)).items():
                for record in records:
                    await handle(orjson.loads(record.value))
                done[partition] = records[-1].offset + 1
                rest -= len(records)
            if rest and done and asyncio.get_running_loop().time() - committed > 1.0:
                await consumer.commit(done)
                committed = asyncio.get_running_loop().time()
        await consumer.commit(done)
        run.stop()
    finally:
        await consumer.stop()
    await check(run, group)


# -- Pythia ------------------------------------------------------------------------------------------------------


async def process(message: Message[Any]) -> None:
    """Look at the decoded body."""
    message.body  # noqa: B018 - looking at it is what decodes it


async def _work(run: Run, settings: Settings) -> None:
    group, through = new_group(), dict.fromkeys(range(PARTITIONS), 0)

    def settled(settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            partition: Any = settlement.partition
            through[partition.partition] = settlement.through or 0
        if sum(through.values()) >= run.messages:
            run.stop()
            engine.stop()

    source = KafkaConsumer(TOPIC, bootstrap_servers=run.place["servers"], consumer_group=group)
    watched = Watched(source.resolve(Start(worker="bench")), settled)
    engine = Engine(watched, process, settings)
    run.start()
    await engine.run()
    await check(run, group)


async def key_order(run: Run) -> None:
    """Run an engine with its default settings, as in a process of ``pythia run``."""
    with tuned(COLLECTOR):
        await _work(run, Settings())


async def no_order(run: Run) -> None:
    """Do the same without order."""
    with tuned(COLLECTOR):
        await _work(run, attrs.evolve(Settings(), order="none"))


# -- others ------------------------------------------------------------------------------------------------------


async def librdkafka(run: Run) -> None:
    """Do what the bare loop does with the client in C, whose calls block: nothing else could run in this loop."""
    confluent = import_module("confluent_kafka")
    group, rest = new_group(), run.messages
    consumer = confluent.Consumer(
        {
            "bootstrap.servers": run.place["servers"],
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
        }
    )
    run.start()
    consumer.subscribe([TOPIC])
    committed = asyncio.get_running_loop().time()
    stored = False  # what there is to commit: without anything it raises
    while rest:
        messages = consumer.consume(BATCH, timeout=0.5)
        for message in messages:
            await handle(orjson.loads(message.value()))
            consumer.store_offsets(message)
        rest -= len(messages)
        stored = stored or bool(messages)
        if rest and stored and asyncio.get_running_loop().time() - committed > 1.0:
            consumer.commit(asynchronous=False)
            committed, stored = asyncio.get_running_loop().time(), False
    consumer.commit(asynchronous=False)
    run.stop()
    consumer.close()
    await check(run, group)


async def faststream(run: Run) -> None:
    """Run FastStream, one message after the other, a commit each: without a logger and without casting types."""
    package = import_module("faststream.kafka")
    broker = package.KafkaBroker(run.place["servers"], logger=None, apply_types=False)
    done = asyncio.Event()
    rest = run.messages

    async def count(body: Any) -> None:
        nonlocal rest
        rest -= 1
        if rest == 0:
            run.stop()
            done.set()

    policy = import_module("faststream").AckPolicy.ACK
    subscribe = broker.subscriber(
        TOPIC, group_id=new_group(), auto_offset_reset="earliest", ack_policy=policy
    )
    subscribe(count)
    run.start()
    await broker.start()
    await done.wait()
    await broker.stop()


TITLE = f"Kafka, {PARTITIONS} partitions, {KEYS} keys, JSON bodies of {BODY} bytes decoded, at least once"
BARE = Contender("aiokafka: getmany(500), one commit a second", "bench.kafka:bare")
PYTHIA = Contender("Pythia, default settings: order by key", "bench.kafka:key_order", Goal("speed", 0.9))
PACKAGES = ["pythia-core", "pythia-kafka", "aiokafka", "orjson"]

BENCHES = [
    Bench(
        name="kafka",
        title=TITLE,
        messages=200_000,
        few=1200,
        reference=BARE,
        contenders=[PYTHIA, Contender("Pythia, no order", "bench.kafka:no_order", Goal("speed", 1.0))],
        place=filled_server,
        packages=PACKAGES,
        programs=["java"],
    ),
    Bench(
        name="kafka-librdkafka",
        title=TITLE,
        messages=200_000,
        few=1200,
        reference=BARE,
        contenders=[
            Contender("librdkafka: consume(500), one commit a second", "bench.kafka:librdkafka"),
            attrs.evolve(PYTHIA, goal=None),
        ],
        place=filled_server,
        packages=[*PACKAGES, "confluent-kafka"],
        needs="confluent_kafka",
    ),
    Bench(
        name="kafka-faststream",
        title=TITLE,
        messages=200_000,
        few=1200,
        reference=Contender("FastStream, ack each", "bench.kafka:faststream", share=0.02),
        contenders=[attrs.evolve(PYTHIA, goal=Goal("speed", 100))],
        place=filled_server,
        packages=[*PACKAGES, "faststream"],
        needs="faststream",
    ),
]
