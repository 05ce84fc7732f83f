"""Three nodes: leaders move, the coordinator goes while offsets are committed, and nothing is lost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from pythia_core import Message, Output
from pythia_kafka import KafkaAdmin, KafkaProducer
from pythia_kafka.client import Client
from tests.kafka.engines import ends, make_engine, running
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually


class Commits:
    """Counts the commits that are on their way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way = self.failed = 0
        commit = Client.commit

        async def counted(client: Client, *arguments: Any) -> None:
            self.under_way += 1
            try:
                await commit(client, *arguments)
            except BaseException:
                self.failed += 1
                raise
            finally:
                self.under_way -= 1

        monkeypatch.setattr(Client, "commit", counted)


async def ask(address: str, what: str, *arguments: Any) -> Any:
    """Ask the cluster by a bare admin client, made for this question, since nodes come and go."""
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    try:
        await client.start()
        return await getattr(client, what)(*arguments)
    finally:
        await client.close()


async def partitions(address: str) -> Sequence[Mapping[str, Any]]:
    """Return what the cluster says of each partition of the topic."""
    (topic,) = await ask(address, "describe_topics", ["orders"])
    found: Sequence[Mapping[str, Any]] = topic["partitions"]
    return found


def led_as_meant(partition: Mapping[str, Any]) -> bool:
    """Tell whether a partition is led by the first of its replicas."""
    return bool(partition["leader"] == partition["replicas"][0])


async def move_leaders(address: str, server: KafkaServer) -> int:
    """Have each partition led by the node that is meant to, and return how many have moved."""
    with anyio.fail_after(60):
        while not all(len(each["isr"]) == 3 for each in await partitions(address)):  # noqa: ASYNC110 - they are asked
            await anyio.sleep(0.1)
    before = {each["partition"]: each["leader"] for each in await partitions(address)}
    elect = partial(server.tool, "org.apache.kafka.tools.LeaderElectionCommand")
    await anyio.to_thread.run_sync(elect, "--election-type", "preferred", "--all-topic-partitions")
    with anyio.fail_after(30):
        while not all(led_as_meant(each) for each in await partitions(address)):  # noqa: ASYNC110 - the same
            await anyio.sleep(0.1)
    return sum(before[each["partition"]] != each["leader"] for each in await partitions(address))


async def test_a_node_that_leads_and_coordinates_may_die(
    kafka_cluster: Sequence[KafkaServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator is killed while a commit is on its way to it, then another node; then the leaders move back.

    All of it under load, also from a producer of ours that writes while its leaders die: everything is confirmed, there and
    done once, and committed by one and the same subscription.
    """
    address = ",".join(node.address for node in kafka_cluster)
    async with KafkaAdmin(bootstrap_servers=address) as admin:
        await admin.create_topic("orders", partitions=3, replicas=3, config={"min.insync.replicas": "2"})
    seen: Counter[int] = Counter()
    commits = Commits(monkeypatch)
    go = anyio.Event()
    sent = started = 0

    async def work(message: Message[Any]) -> None:
        nonlocal started
        started += 1
        await go.wait()
        await anyio.sleep(0.001)
        seen[message.body["n"]] += 1

    async def publish(count: int) -> None:
        nonlocal sent
        for start in range(sent, sent + count, 50):
            outputs = [Output(None, {"n": n}, key=f"k{n % 30}") for n in range(start, start + 50)]
            assert (await producer.write(outputs)).errors == {}
            sent = start + 50

    async def all_was_done() -> None:
        await eventually(lambda: len(seen) == sent, "all that was sent was seen", seconds=60)
        await eventually(lambda: engine.stats.settled >= sent, "and committed", seconds=60)

    engine = make_engine(address, "orders", work, session_timeout=90.0)
    producer = KafkaProducer("orders", bootstrap_servers=address, delivery_timeout=60.0)
    async with producer, running(engine):
        await publish(300)
        await eventually(lambda: started >= 3, "it was at work", seconds=30)
        coordinator = await ask(address, "find_coordinator", "orders-workers")
        nodes = sorted(kafka_cluster, key=lambda node: node.node != coordinator)
        nodes[0].pause()
        go.set()
        await eventually(lambda: commits.under_way, "a commit was on its way", seconds=30)
        for node in nodes[:2]:
            async with anyio.create_task_group() as group:
                group.start_soon(publish, 600)
                await anyio.to_thread.run_sync(node.kill)
            await all_was_done()
            await anyio.to_thread.run_sync(node.start)
        assert commits.failed > 0
        async with anyio.create_task_group() as group:
            group.start_soon(publish, 3_000)
            assert await move_leaders(address, nodes[2]) > 0
        await all_was_done()
    assert set(seen) == set(range(sent))
    assert sum((await ends(address, "orders")).values()) == sent
    assert engine.stats.subscriptions == 1
    assert set(seen.values()) == {1}
