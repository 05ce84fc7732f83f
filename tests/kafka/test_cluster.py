"""Three nodes: leaders move, the coordinator goes while offsets are committed, and nothing is lost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread

from pythia_core import Message
from pythia_kafka import KafkaAdmin
from tests.kafka.driving import Publisher
from tests.kafka.engines import ends, make_engine, running
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually


async def test_a_node_that_leads_and_coordinates_may_die(kafka_cluster: Sequence[KafkaServer]) -> None:
    """Each node in turn is killed under load, so that every leader and the coordinator go: all is done and committed."""
    address = ",".join(node.address for node in kafka_cluster)
    async with KafkaAdmin(bootstrap_servers=address) as admin:
        await admin.create_topic("orders", partitions=3, replicas=3, config={"min.insync.replicas": "2"})
    seen: Counter[int] = Counter()
    sent = 0

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.001)
        seen[message.body["n"]] += 1

    async def publish(count: int) -> None:
        nonlocal sent
        async with Publisher.connected(address) as publisher:
            await publisher.publish("orders", count, start=sent, partition=None, keys=30)
        sent += count

    engine = make_engine(address, "orders", work, session_timeout=90.0)
    async with running(engine):
        await publish(300)
        await eventually(lambda: len(seen) >= 100, "it was at work", seconds=30)
        for node in kafka_cluster[:2]:
            await anyio.to_thread.run_sync(node.kill)
            await publish(300)
            await eventually(lambda: len(seen) == sent, "all that was sent was seen", seconds=60)
            await eventually(lambda: engine.stats.settled >= sent, "and committed", seconds=60)
            await anyio.to_thread.run_sync(node.start)
    assert set(seen) == set(range(sent))
    assert sum((await ends(address, "orders")).values()) == sent
    assert engine.stats.subscriptions == 1
    assert set(seen.values()) == {1}
