"""The faults that a test can order: each does what it says, as often as it says, and where it says."""

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from pythia_core.contracts import Output
from pythia_core.errors import WriteError
from tests.memory.owner import Recorder
from tests.memory.reader import fill, positions, reading


async def test_a_settle_that_fails_has_done_nothing() -> None:
    """It raises as often as was ordered, then works again."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as reader:
        p = positions(await reader.fetch())
        broker.fail_next("settle", times=2)
        for _ in range(2):
            with pytest.raises(ConnectionError, match="refused this settle"):
                await reader.settle(beyond=p)
            assert broker.settled("orders") == []
        assert await reader.settle(beyond=p) == []
        assert len(broker.settled("orders")) == 1


@pytest.mark.parametrize("verb", ["beyond", "released", "rejected", "renewed"])
async def test_a_settle_whose_answer_is_lost_was_done(verb: str) -> None:
    """It raises though it was executed, and saying the same again is neither refused nor done twice."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker, lease_seconds=10, keep_rejected=True) as reader:
        p = positions(await reader.fetch())
        broker.drop_reply("settle")
        with pytest.raises(ConnectionError, match="lost the answer"):
            await reader.settle(**{verb: p})
        states = [broker.waiting("orders"), broker.pending("orders"), broker.settled("orders")]
        assert await reader.settle(**{verb: p}) == []
        assert states == [broker.waiting("orders"), broker.pending("orders"), broker.settled("orders")]
        assert len(broker.dead_letters("orders")) == (verb == "rejected")


async def test_a_fetch_can_fail_with_an_error_of_choice() -> None:
    """Nothing is delivered by a fetch that fails."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as reader:
        broker.fail_next("fetch", error=TimeoutError("slow"))
        with pytest.raises(TimeoutError, match="slow"):
            await reader.fetch()
        assert await reader.values() == [b"0"]


async def test_a_subscribe_can_fail() -> None:
    """It leaves no member behind."""
    broker = MemoryBroker()
    broker.fail_next("subscribe")
    source = MemoryConsumer("orders", broker=broker)
    with pytest.raises(ConnectionError):
        await source.subscribe(Recorder())
    assert broker.topic("orders").groups == {}


async def test_a_call_can_be_held_until_an_event() -> None:
    """It does nothing before the event, and everything after it."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as reader, anyio.create_task_group() as group:
        p = positions(await reader.fetch())
        broker.hold("settle", until := anyio.Event())

        async def settle() -> None:
            await reader.settle(beyond=p)

        group.start_soon(settle)
        await anyio.wait_all_tasks_blocked()
        assert broker.settled("orders") == []
        until.set()
    assert len(broker.settled("orders")) == 1


async def test_writes_fail_by_index() -> None:
    """Each error is told at its index; later outputs of the same key wait, and other keys are written."""
    broker = MemoryBroker()
    broker.fail_indexes({1: WriteError("full"), 3: WriteError("too large", permanent=True)})
    async with MemoryProducer("out", broker=broker) as sink:
        outputs = [Output(sink, b"%d" % index, key=key) for index, key in enumerate("abbcca")]
        result = await sink.write(outputs)
        assert sorted(result.confirmed) == [0, 5]
        assert [str(result.error(index)) for index in (1, 3)] == ["full", "too large"]
        assert [result.errors[index].permanent for index in (1, 2, 3, 4)] == [False, False, True, False]
        assert "earlier output of key 'b'" in str(result.error(2))
        assert [record.value for record in broker.records("out")] == [b"0", b"5"]
        assert sorted((await sink.write(outputs[1:3])).confirmed) == [0, 1]


async def test_unkeyed_outputs_do_not_wait_for_one_another() -> None:
    """Without a key there is no order to keep."""
    broker = MemoryBroker()
    broker.fail_indexes({0: WriteError("full")})
    async with MemoryProducer("out", broker=broker) as sink:
        result = await sink.write([Output(sink, b"0"), Output(sink, b"1")])
    assert list(result.confirmed) == [1]


async def test_a_write_whose_answer_is_lost_was_done() -> None:
    """The output is there though the call raised."""
    broker = MemoryBroker()
    broker.drop_reply("write")
    async with MemoryProducer("out", broker=broker) as sink:
        with pytest.raises(ConnectionError):
            await sink.send({"id": 1})
    assert [record.value for record in broker.records("out")] == [b'{"id":1}']


async def test_faults_can_be_of_one_topic_and_can_be_taken_back() -> None:
    """A fault of another topic does not happen here, and ``heal`` forgets what has not happened."""
    broker = MemoryBroker()
    broker.fail_next("write", times=5, topic="out.dlq")
    async with MemoryProducer("out", broker=broker) as sink, MemoryProducer("out.dlq", broker=broker) as dead:
        await sink.send(b"fine")
        with pytest.raises(ConnectionError):
            await dead.send(b"fails")
        broker.heal()
        await dead.send(b"fine")
