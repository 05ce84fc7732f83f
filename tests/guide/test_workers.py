"""The guide's workers do on real brokers what the guide says of them, in one process."""

import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest
from redis import Redis

from pythia import Message
from pythia.brokers.kafka import KafkaAdmin
from pythia.brokers.redis import RedisStreamsConsumer, RedisStreamsProducer
from tests.guide.conftest import MakeTopics
from tests.guide.running import Notes, load, serving
from tests.guide.truth import watched
from tests.kafka.driving import Publisher, committed, read
from tests.rabbitmq.driving import Client
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.waiting import eventually


class Greeter(BaseHTTPRequestHandler):
    """Answers whatever is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


async def test_heavy_work_goes_to_the_threads_of_the_guide(redis: RedisServer, notes: Notes) -> None:
    """What a header calls heavy runs in the pool's threads, the rest asks another service, and both are written down."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as service, Redis(port=redis.port) as client:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{service.server_port}/"
        for number in range(20):
            heavy = {"cpu_intensive": "1"} if number % 2 else {}
            body = json.dumps({"id": number, "text": "x", "url": url})
            client.xadd("work", {"body": body, **heavy})
        worker = load("threads.py").VerticalScaledWorker(
            source=RedisStreamsConsumer("work"), sink=RedisStreamsProducer("results")
        )
        async with serving(worker):
            await eventually(lambda: client.xlen("results") == 20, "every message has a result")
        worker.executor.shutdown()
        service.shutdown()
        entries: Any = client.xrange("results")
    results = [json.loads(fields[b"body"]) for _, fields in entries]
    assert {found["id"] for found in results if found.get("answer") == "hello"} == set(range(0, 20, 2))
    assert {found["id"] for found in results if "digest" in found} == set(range(1, 20, 2))
    threads = {name for name, _ in notes("computed")}
    assert all(name.startswith("ThreadPoolExecutor") for name in threads)
    assert len(threads) <= 4


def partition_of(message: Any) -> int:
    """Return the number of the partition that a message of Kafka came from."""
    return int(message.partition.partition)


async def test_two_workers_of_a_kafka_group_have_half_of_the_partitions_each(
    make_topics: MakeTopics, publisher: Publisher, kafka: KafkaServer
) -> None:
    """By the strategy "range" one has the first half of four partitions, the other the second, and no message comes twice.

    The admin knows to the message what they have left, also while they are held up.
    """
    await make_topics("orders", partitions=4)
    snippet = load("kafka_group.py")
    came: dict[str, Counter[tuple[int, int]]] = {"worker1": Counter(), "worker2": Counter()}
    go = anyio.Event()
    for name, seen in came.items():

        async def process(message: Message[Any], seen: Any = seen) -> None:
            await go.wait()
            seen[partition_of(message), message.body["n"]] += 1

        getattr(snippet, name).process = process

    def partitions(name: str, start: int) -> set[int]:
        return {partition for partition, number in came[name] if number >= start}

    group = ("order-processors", "orders")
    await publisher.publish("orders", 7)
    async with serving(snippet.worker1, snippet.worker2), watched(kafka, group) as truth:
        await eventually(lambda: truth.answers[group][-3:] == [7] * 3, "the admin said what was left")
        go.set()
        await eventually(lambda: sum(map(len, came.values())) == 7, "they went on")
        start = 7
        while not (partitions("worker1", start) and partitions("worker2", start)):  # until both have joined
            start += 4
            for partition in range(4):
                await publisher.publish("orders", start=start + partition, partition=partition)
            arrived = lambda wanted=start: sum(map(len, came.values())) >= wanted
            await eventually(arrived, "what was published came", seconds=20)
    halves = sorted(sorted(partitions(name, start)) for name in came)
    assert halves == [[0, 1], [2, 3]]
    assert set((came["worker1"] + came["worker2"]).values()) == {1}


async def test_workers_on_one_rabbitmq_queue_share_its_tasks(rabbit: Client, notes: Notes) -> None:
    """Three workers have a part of the tasks each, every task comes once, and nothing is left in the queue."""
    kind = load("rabbitmq_queue.py").LoadBalancedWorker
    sent = 0
    async with kind.source.counterpart() as tasks, serving(kind(), kind(), kind()):
        while len({worker for worker, _ in notes("task")}) < 3:  # until all of them have joined
            for _ in range(30):
                await tasks.send({"n": (sent := sent + 1)})
            await eventually(lambda: len(notes("task")) >= sent, "every task was done")
        await rabbit.wait_for_depth("tasks", 0)
    assert Counter(body["n"] for _, body in notes("task")) == Counter(range(1, sent + 1))


async def test_workers_of_a_redis_group_with_the_name_of_the_guide_share_its_events(
    redis: RedisServer, notes: Notes
) -> None:
    """Two instances that the guide names alike are two consumers all the same, and each event comes once."""
    kind = load("redis_group.py").StreamWorker
    with Redis(port=redis.port) as client:
        async with serving(kind(), kind()):
            async with kind.source.counterpart() as events:
                await events.send({"n": 0})
                await eventually(lambda: notes("event"), "the group is there")
                for number in range(1, 100):
                    await events.send({"n": number})
            await eventually(lambda: len(notes("event")) == 100, "every event was done")
            consumers: Any = client.xinfo_consumers("events", "processors")
            counted = lambda: client.xpending("events", "processors")["pending"] == 0
            await eventually(counted, "every event was acknowledged")
    names = {consumer["name"] for consumer in consumers}
    assert len(names) == 2
    assert all(name.startswith(b"worker-1:") for name in names)
    assert Counter(body["n"] for body in notes("event")) == Counter(range(100))


async def test_each_region_has_its_own_cluster(
    kafka_server: KafkaServer, guide_kafka: KafkaServer, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker reads the cluster whose name it was given, and each cluster's admin knows how far its own has got.

    Names of machines are all that this test makes up.
    """
    regions = {"kafka-us-east": kafka_server, "kafka-eu-west": guide_kafka}
    resolve = socket.getaddrinfo

    def by_region(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if server := regions.get(host):
            assert port == 9092
            host, port = "127.0.0.1", server.port
        return resolve(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", by_region)
    for region, server in (("us-east", kafka_server), ("eu-west", guide_kafka)):
        async with KafkaAdmin(bootstrap_servers=server.address) as admin:
            await admin.create_topic(f"orders-{region}")
        async with Publisher.connected(server.address) as publisher:
            await publisher.publish(f"orders-{region}", 10, start=0 if region == "us-east" else 10)
    snippet = load("regions.py")
    async with (
        serving(snippet.USEastWorker(), snippet.EUWestWorker()),
        watched(kafka_server, ("us-east-worker", "orders-us-east")),
        watched(guide_kafka, ("eu-west-worker", "orders-eu-west")),
    ):
        arrived = lambda: len(notes("us-east")) + len(notes("eu-west")) == 20
        await eventually(arrived, "both regions' orders came", seconds=20)
    assert sorted(body["n"] for body in notes("us-east")) == [*range(10)]
    assert sorted(body["n"] for body in notes("eu-west")) == [*range(10, 20)]


async def test_events_fan_out_by_type(
    make_topics: MakeTopics, publisher: Publisher, kafka: KafkaServer
) -> None:
    """Each event is in the topic of its type and in no other, is committed only after it is there, and the lag is true."""
    await make_topics("incoming", "orders", "inventory", "billing")
    events = [{"type": kind, "n": n} for n in range(10) for kind in ("order", "inventory", "billing")]
    for event in events:
        await publisher.producer.send_and_wait("incoming", json.dumps(event).encode())
    async with (
        serving(load("fan_out.py").FanOutWorker()),
        watched(kafka, ("fan-out-worker", "incoming")),
    ):
        for topic, kind in (("orders", "order"), ("inventory", "inventory"), ("billing", "billing")):
            records = [json.loads(record.value) for record in await read(kafka.address, topic, 10)]
            assert sorted(found["n"] for found in records) == [*range(10)]
            assert {found["type"] for found in records} == {kind}
        offset = 0
        with anyio.fail_after(10):  # it is committed a moment later, in batches
            while offset < 30:
                offset = (await committed(kafka.address, "fan-out-worker")).get(0, (0, ""))[0]
    assert offset == 30
