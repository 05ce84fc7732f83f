"""Fan-out and pipelines over three brokers in one worker, and what is settled when while one of them is away."""

import json
from typing import Any

import anyio
import redis as bare

from pythia import Message, Output, Worker
from pythia.brokers.kafka import KafkaConsumer
from pythia.brokers.rabbitmq import RabbitMQConsumer, RabbitMQProducer
from pythia.brokers.redis import RedisStreamsConsumer, RedisStreamsProducer
from pythia.config import WorkerConfig
from tests.guide.conftest import MakeTopics
from tests.guide.running import serving
from tests.kafka.driving import Publisher, committed
from tests.rabbitmq.driving import Client
from tests.servers.fixtures import OwnRedis
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.waiting import eventually

SECONDS = 60  # a deadline, not an expectation


class FanOut(Worker[dict[str, int]]):
    """From Kafka to a stream of Redis and a queue of RabbitMQ."""

    source = KafkaConsumer("orders", consumer_group="fan-out")
    billing = RabbitMQProducer(queue="billing")
    config = WorkerConfig(batch_timeout=0.2)

    async def process(self, message: Message[dict[str, int]]) -> list[Output]:
        """Write each order to both."""
        return [Output(None, message.body), Output(self.billing, message.body)]


async def committed_is(kafka: KafkaServer, group: str, offset: int) -> None:
    """Wait until a group has committed this offset of the only partition."""
    with anyio.fail_after(SECONDS):
        while (await committed(kafka.address, group)).get(0, (0, ""))[0] != offset:
            pass  # to ask takes its time


def entries(client: "bare.Redis") -> list[int]:
    """Return the numbers in the stream."""
    found: Any = client.xrange("shipping")
    return [json.loads(fields[b"body"])["n"] for _, fields in found]


async def test_nothing_is_settled_with_one_branch_missing(
    make_topics: MakeTopics, publisher: Publisher, kafka: KafkaServer, rabbit: Client, own_redis: OwnRedis
) -> None:
    """While one broker is away the other branch is written once, and the position stays; when it is back all goes on."""
    await make_topics("orders")
    await rabbit.declare("billing")
    server = own_redis(durable=True)
    worker = FanOut(sink=RedisStreamsProducer("shipping", url=server.url))
    async with serving(worker):
        await publisher.publish("orders", 10)
        await rabbit.wait_for_depth("billing", 10, seconds=SECONDS)
        await committed_is(kafka, "fan-out", 10)
        server.kill()
        await publisher.publish("orders", 5, start=10)
        await rabbit.wait_for_depth("billing", 15, seconds=SECONDS)
        assert (await committed(kafka.address, "fan-out"))[0][0] == 10
        server.start()
        await committed_is(kafka, "fan-out", 15)
    assert await rabbit.depth("billing") == 15, "the branch that was confirmed is not written again"
    with bare.Redis(port=server.port) as client:
        assert sorted(entries(client)) == [*range(15)]  # without keys no order is promised


class Validation(Worker[dict[str, Any]]):
    """The first stage, from Kafka to Redis."""

    source = KafkaConsumer("raw-data", consumer_group="validation")
    sink = RedisStreamsProducer("validated")

    async def process(self, message: Message[dict[str, Any]]) -> Output:
        """Hand on with the key."""
        return Output(self.sink, message.body, key=message.key)


class Enrichment(Worker[dict[str, Any]]):
    """The second, from Redis to RabbitMQ, by a `send` of its own."""

    source = RedisStreamsConsumer("validated")
    sink = RabbitMQProducer(queue="enriched")

    async def process(self, message: Message[dict[str, Any]]) -> None:
        """Send, which returns when the broker has confirmed."""
        await self.sink.send({**message.body, "enriched": True}, key=message.key)


class Storage(Worker[dict[str, Any]]):
    """The last, from RabbitMQ."""

    source = RabbitMQConsumer("enriched")

    async def startup(self) -> None:
        self.stored: list[dict[str, Any]] = []

    async def process(self, message: Message[dict[str, Any]]) -> None:
        """Keep it."""
        self.stored.append(message.body)


async def test_a_pipeline_goes_through_three_brokers(
    make_topics: MakeTopics, publisher: Publisher, redis: RedisServer, rabbit: Client
) -> None:
    """From Kafka by an Output to Redis, by a send to RabbitMQ, each message once, and nothing is left on the way."""
    await make_topics("raw-data")
    storage = Storage()
    async with serving(storage, Enrichment(), Validation()):
        await publisher.publish("raw-data", 20)
        stored = lambda: len(getattr(storage, "stored", ())) >= 20
        await eventually(stored, "all of it was stored", seconds=SECONDS)
        await rabbit.wait_for_depth("enriched", 0, seconds=SECONDS)
    assert sorted(found["n"] for found in storage.stored) == [*range(20)]
    assert all(found["enriched"] for found in storage.stored)
