"""The source as a description: its settings, its defaults, and what else it hands out."""

from typing import Any

import cattrs
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer, find_broker
from pythia_core.contracts import Backlog, Capabilities, Start
from pythia_core.errors import ConfigError
from tests.memory.owner import Recorder
from tests.memory.reader import ManualClock, fill, positions, reading, up_to


def test_the_group_is_filled_in() -> None:
    """What the code says wins over the environment, and that over the worker's name."""
    source = MemoryConsumer("orders")
    environ = {"CONSUMER_GROUP": "env"}
    assert source.resolve(Start("worker")).consumer_group == "worker"
    assert source.resolve(Start("worker", environ=environ)).consumer_group == "env"
    mine = MemoryConsumer("orders", consumer_group="mine")
    assert mine.resolve(Start("worker", environ=environ)).consumer_group == "mine"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ack": "sometimes"}, "ack='sometimes' must be cumulative, individual or both"),
        ({"ack": "cumulative", "lease_seconds": 5}, "lease_seconds"),
        ({"ack": "individual", "notes": True}, "notes"),
        ({"ack": "individual", "rebalances": "eager"}, "rebalances"),
        ({"ack": "cumulative", "rebalances": "lazy"}, "rebalances"),
        ({"ack": "cumulative", "order_scope": "none"}, "order_scope"),
        ({"order_scope": "key"}, "order_scope"),
        ({"window": 0}, "window"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"revoke_seconds": 0}, "revoke_seconds"),
    ],
)
async def test_settings_that_disagree_are_named(settings: dict[str, Any], named: str) -> None:
    """A worker with them does not start, and nor does a subscription."""
    source = MemoryConsumer("orders", broker=MemoryBroker(), **settings)
    with pytest.raises(ConfigError, match=named):
        source.resolve(Start("worker"))
    with pytest.raises(ConfigError, match=named):
        await source.subscribe(Recorder())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Capabilities(order_scope="consumer", delivery_count=True)),
        ({"delivery_count": False, "order_scope": "none"}, Capabilities()),
        (
            {"ack": "cumulative", "notes": True, "rebalances": "eager", "revoke_seconds": 7.0},
            Capabilities("cumulative", "partition", notes=True, rebalances=True, revoke_seconds=7.0),
        ),
        (
            {"ack": "both", "window": 10, "lease_seconds": 30.0},
            Capabilities("both", "consumer", window=10, lease_seconds=30.0, delivery_count=True),
        ),
        (
            {"order_scope": "partition", "rebalances": "incremental"},
            Capabilities(
                "individual", "partition", delivery_count=True, rebalances=True, revoke_seconds=10.0
            ),
        ),
    ],
)
def test_capabilities_are_what_the_settings_say(settings: dict[str, Any], expected: Capabilities) -> None:
    """The engine is told exactly what the broker will do."""
    assert MemoryConsumer("orders", **settings).capabilities == expected


def test_fields_are_structured_from_text() -> None:
    """A configuration file gives strings; a broker's name finds the process's broker of that name."""
    given = {"topic": "orders", "ack": "both", "window": "9", "lease_seconds": "2.5", "broker": "named"}
    source = cattrs.structure(given, MemoryConsumer)
    assert (source.topic, source.ack, source.window, source.lease_seconds) == ("orders", "both", 9, 2.5)
    assert source.broker is find_broker("named") is MemoryProducer("x", broker="named").broker
    assert cattrs.structure({"topic": "out"}, MemoryProducer).broker is find_broker() is not source.broker


async def test_members_of_a_group_must_agree() -> None:
    """A member by other rules is refused; when nobody is there rules may change, the way to acknowledge never."""
    broker = MemoryBroker()
    async with reading(broker, window=5):
        with pytest.raises(ConfigError, match="window=5"):
            await MemoryConsumer("orders", broker=broker).subscribe(Recorder())
    async with reading(broker, window=6):
        pass
    with pytest.raises(ConfigError, match="cumulative"):
        await MemoryConsumer("orders", broker=broker, ack="cumulative").subscribe(Recorder())


async def test_rules_that_change_between_members_are_obeyed() -> None:
    """A group that was left takes the new lease, window and place for rejected messages."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    fill(broker, 2)
    async with reading(broker):
        pass
    async with reading(broker, lease_seconds=1, keep_rejected=True) as reader:
        first = positions(await reader.fetch())[:1]
        await reader.settle(rejected=first)
        assert len(broker.dead_letters("orders")) == 1
        clock.now += 1
        assert await reader.values() == [b"1"]


@pytest.mark.parametrize("ack", ["cumulative", "individual", "both"])
async def test_the_backlog_is_true(ack: Any) -> None:
    """Waiting, in flight and the oldest age are exact at every step, and looking makes no group."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    source = MemoryConsumer("orders", broker=broker, ack=ack)
    async with source.inspect() as inspector:
        assert strip(await inspector.backlog()) == (0, 0, 0.0)
        fill(broker, 1)
        clock.now += 5
        fill(broker, 2)
        assert strip(await inspector.backlog()) == (3, 0, 5.0)
        assert broker.topic("orders").groups == {}
        async with reading(broker, ack=ack) as reader:
            messages = await reader.fetch(2)
            assert strip(await inspector.backlog()) == (1, 2, 5.0)
            await reader.settle(**up_to(messages[:1], ack))
            assert strip(await inspector.backlog()) == (1, 1, 0.0)
        assert strip(await inspector.backlog()) == (2, 0, 0.0)


def strip(backlog: Backlog) -> tuple[int | None, int | None, float | None]:
    """Return the three figures."""
    assert not backlog.at_least
    return backlog.waiting, backlog.in_flight, backlog.oldest_age_seconds


async def test_the_backlog_by_partition() -> None:
    """Where partitions are split each has its own figures, and they add up; a shared queue has none."""
    broker = MemoryBroker(partitions=2, clock=(clock := ManualClock()))
    fill(broker, 1, partition=0)
    clock.now += 2
    fill(broker, 3, partition=1)
    split = await MemoryConsumer("orders", broker=broker, ack="cumulative").inspect().backlog()
    assert split.by_partition == {0: Backlog(1, 0, 2.0), 1: Backlog(3, 0, 0.0)}
    assert strip(split) == (4, 0, 2.0)
    assert (await MemoryConsumer("orders", broker=broker).inspect().backlog()).by_partition == {}


async def test_an_expired_lease_is_in_the_backlog_as_waiting() -> None:
    """The inspector needs nobody to fetch to see it."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    fill(broker, 1)
    async with reading(broker, lease_seconds=1) as reader:
        await reader.fetch()
        clock.now += 1
        inspector = MemoryConsumer("orders", broker=broker, lease_seconds=1).inspect()
        assert strip(await inspector.backlog()) == (1, 0, 1.0)


async def test_the_counterpart_writes_where_the_source_reads() -> None:
    """What it sends arrives."""
    broker = MemoryBroker()
    source = MemoryConsumer("orders", broker=broker)
    async with source.counterpart() as sink, reading(broker) as reader:
        await sink.send({"id": 1}, key="k")
        (message,) = await reader.fetch()
    assert (message.raw, message.key, source.name, sink.name) == (b'{"id":1}', "k", "orders", "orders")


async def test_dead_letters_have_a_natural_place() -> None:
    """A sink and a source of ``<topic>.dlq``, read in the same way as the topic."""
    broker = MemoryBroker()
    source = MemoryConsumer("orders", broker=broker, partitions=3, ack="cumulative", consumer_group="g")
    place = source.dead_letters()
    assert place is not None
    sink, dead = place
    async with sink:
        await sink.send(b"dead")
    assert [record.value for record in broker.dead_letters("orders")] == [b"dead"]
    assert (dead.name, dead.capabilities, dead.consumer_group) == (
        "orders.dlq",
        source.capabilities,
        "dead-letters",
    )
    assert dead.dead_letters() is None
    owner = Recorder()
    subscription = await dead.subscribe(owner)
    (chunk,) = await subscription.fetch({0: 1}, 1, 100, 0)
    assert chunk.messages[0].raw == b"dead"
    assert len(broker.topic("orders.dlq").logs) == 1
    await subscription.aclose()


async def test_a_source_makes_its_topic() -> None:
    """With the partitions it asks for; a topic that has more already is a disagreement."""
    broker = MemoryBroker()
    async with reading(broker, ack="cumulative", partitions=3) as reader:
        assert reader.partitions == [0, 1, 2]
    with pytest.raises(ConfigError, match="has 3 partitions"):
        await MemoryConsumer("orders", broker=broker, ack="cumulative", partitions=2).subscribe(Recorder())
