"""Topics: partitions, isolation, and what is forgotten when."""

import pytest

from pythia_core.brokers.memory import MemoryBroker
from tests.memory.reader import fill, positions, reading, up_to


def test_a_key_has_one_partition_and_keyless_messages_take_turns() -> None:
    """The hash is stable over processes and the same for text and its bytes."""
    broker = MemoryBroker(partitions=8)
    for key in ("a", b"a", "a", "b", "customer-17"):
        broker.publish("keyed", b"", key=key)
    assert {r.partition for r in broker.records("keyed") if r.key in ("a", b"a")} == {3}
    assert len({r.partition for r in broker.records("keyed")}) == 3
    assert [broker.publish("keyless", b"").partition for _ in range(9)] == [*range(8), 0]


@pytest.mark.parametrize("name", ["a b", "a/b", "ä", "a*", "orders.dlq", "x" * 300])
async def test_topics_are_apart_whatever_they_are_called(name: str) -> None:
    """A message of one topic is never seen in another."""
    broker = MemoryBroker()
    broker.publish(name, b"mine")
    broker.publish("other", b"not mine")
    async with reading(broker, name) as reader:
        assert await reader.values() == [b"mine"]


def test_values_other_than_bytes_are_json() -> None:
    """As a producer would encode them."""
    assert MemoryBroker().publish("orders", {"id": 1}).value == b'{"id":1}'


@pytest.mark.parametrize("ack", ["cumulative", "individual", "both"])
async def test_only_what_every_group_has_settled_is_forgotten(ack: str) -> None:
    """A broker that runs for years does not grow, and forgets nothing that somebody has still to read."""
    broker = MemoryBroker(retention=10)
    async with reading(broker, ack=ack) as reader:
        fill(broker, 1)
        messages = await reader.fetch()
        for _ in range(20):
            fill(broker, 10)
            messages += await reader.fetch()
        if ack == "individual":
            await reader.settle(beyond=positions(messages[1:]))
        assert len(broker.records("orders")) == 201
        await reader.settle(**up_to(messages, ack))
        for _ in range(50):
            fill(broker, 10)
            messages = await reader.fetch()
            assert len(messages) == 10
            await reader.settle(**up_to(messages, ack))
        assert 10 <= len(broker.records("orders")) < 500
        assert broker.committed("orders") == 701
        assert await reader.fetch() == []
    async with reading(broker, consumer_group="late", ack=ack) as late:
        assert len(await late.fetch()) == len(broker.records("orders"))


async def test_some_of_what_is_settled_is_kept_for_new_groups() -> None:
    """The last ``retention`` settled records stay, and a partition is looked at when it has twice as many."""
    broker = MemoryBroker(retention=10)
    fill(broker, 20)
    async with reading(broker, ack="cumulative") as reader:
        await reader.fetch()
        await reader.settle(through=20)
        assert len(broker.records("orders")) == 20
        fill(broker, 1)
        assert [record.offset for record in broker.records("orders")] == list(range(10, 21))


def test_what_no_group_reads_is_kept() -> None:
    """Messages published before the first worker starts are all there."""
    broker = MemoryBroker(retention=10)
    fill(broker, 1000)
    assert len(broker.records("orders")) == 1000
