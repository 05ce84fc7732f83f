"""Messages that are held back in memory: due by the broker's clock, and a reader that waits is woken by it."""

from __future__ import annotations

import time

import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Output
from pythia_core.errors import WriteError
from tests.memory.reader import ManualClock, reading


async def test_a_message_comes_when_it_is_due_and_not_before() -> None:
    """In the order of the times, whatever was published first; and it is not in the topic meanwhile."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    async with MemoryProducer("orders", broker=broker) as orders, reading(broker) as reader:
        outputs = [
            Output(orders, name, delay=seconds) for name, seconds in ((b"b", 20), (b"a", 10), (b"c", 0))
        ]
        assert len((await orders.write(outputs)).confirmed) == 3
        assert await reader.values() == [b"c"]
        assert [record.value for record in broker.held("orders")] == [b"a", b"b"]
        clock.now += 9.9
        assert await reader.values() == []
        clock.now += 0.1
        assert await reader.values() == [b"a"]
        clock.now += 100
        assert await reader.values() == [b"b"]
    assert broker.held("orders") == []


async def test_whoever_looks_sees_what_is_due() -> None:
    """Also where nobody reads: it counts as waiting from then on, and no sooner."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    broker.publish("orders", b"1", delay=10)
    assert broker.records("orders") == []
    clock.now += 10
    (record,) = broker.records("orders")
    assert (record.offset, record.published) == (0, 110.0)


async def test_a_reader_that_waits_is_woken_when_a_message_is_due() -> None:
    """One that was published while it waited, too; nobody has to call."""
    broker = MemoryBroker()
    async with reading(broker) as reader:
        broker.publish("orders", b"1", delay=0.05)
        began = time.monotonic()
        assert await reader.values(wait=30) == [b"1"]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "5"])
async def test_a_delay_is_a_time(delay: object) -> None:
    """Anything else is refused for good."""
    async with MemoryProducer("orders", broker=MemoryBroker()) as orders:
        with pytest.raises(WriteError, match="it is a number of seconds") as caught:
            await orders.send(b"1", delay=delay)  # type: ignore[arg-type]
    assert caught.value.permanent


async def test_a_sink_that_cannot_hold_back_says_so() -> None:
    """By either way to write; a delay of nothing at all is one too, since nobody asks for it by chance."""
    async with MemoryProducer("orders", broker=MemoryBroker(), delays=False) as orders:
        with pytest.raises(WriteError, match="MemoryProducer cannot hold an output back"):
            await orders.send(b"1", delay=0)
        result = await orders.write([Output(orders, b"1", delay=5), Output(orders, b"2")])
    assert list(result.confirmed) == [1]
    assert "cannot hold an output back" in str(result.error(0))
