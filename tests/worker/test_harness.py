"""The harness: a worker on a broker in memory, with time under control."""

from typing import Any

import anyio
import pytest

from pythia import Message, Output, Reject, Retry, Worker
from pythia.brokers.kafka import KafkaConsumer, KafkaProducer
from pythia.brokers.redis import RedisStreamsProducer
from pythia.config import WorkerConfig
from pythia.testing import WorkerHarness, in_virtual_time


class Bills(Worker[Any]):
    """Bills orders; written for Kafka, of which no test here has any."""

    source = KafkaConsumer("orders", bootstrap_servers="nowhere:9092")
    sink = KafkaProducer("bills", bootstrap_servers="nowhere:9092")
    config = WorkerConfig(dead_letter=KafkaProducer("dead", bootstrap_servers="nowhere:9092"))

    async def startup(self) -> None:
        self.started: list[tuple[int, float]] = []

    async def process(self, message: Message[Any]) -> Any:
        order = message.body
        self.started.append((order["id"], anyio.current_time()))
        if order["amount"] < 0:
            raise Reject("an amount below nothing")
        if message.attempt <= order.get("failures", 0):
            raise Retry(3600)
        return Output(None, {"bill": order["amount"]}, key=order.get("customer"))


async def test_what_comes_in_is_processed_and_what_goes_out_is_seen() -> None:
    """A worker written for Kafka runs without one, on either event loop; its outputs keep their keys."""
    async with WorkerHarness(Bills()) as harness:
        harness.send({"id": 1, "amount": 5, "customer": "a"})
        harness.send({"id": 2, "amount": 7, "customer": "b"})
        await harness.until_done()
    assert sorted((letter.key, letter.body["bill"]) for letter in harness.outputs) == [("a", 5), ("b", 7)]
    assert not harness.dead_letters


async def test_dead_letters_are_seen_with_their_reason() -> None:
    """What cannot be read is one too, and both count as settled."""
    async with WorkerHarness(Bills()) as harness:
        harness.send({"id": 1, "amount": -1})
        harness.send(b"{")
        await harness.until_done()
        assert harness.settled == 2
    bodies = {letter.raw for letter in harness.dead_letters}
    assert bodies == {b'{"id":1,"amount":-1}', b"{"}
    why = [str(letter.headers.get("pythia-error-message")) for letter in harness.dead_letters]
    assert any("an amount below nothing" in text for text in why)


@in_virtual_time
async def test_hours_of_retries_take_no_time() -> None:
    """Each attempt comes an hour after the one before it, by the worker's own clock, and order by key holds meanwhile."""
    async with WorkerHarness(Bills()) as harness:
        harness.send({"id": 1, "amount": 5, "failures": 2}, key="a")
        harness.send({"id": 2, "amount": 6}, key="a")
        await harness.until_done(seconds=20_000)
        attempts = harness.worker.started  # type: ignore[attr-defined]
    assert [number for number, _ in attempts] == [1, 1, 1, 2]
    times = [at for _, at in attempts]
    assert times[1] - times[0] == pytest.approx(3600, abs=1)
    assert times[2] - times[1] == pytest.approx(3600, abs=1)


@in_virtual_time
async def test_what_is_not_done_in_time_is_told() -> None:
    """The error counts what is settled, instead of waiting for ever."""
    with pytest.raises(ExceptionGroup) as raised:
        async with WorkerHarness(Bills()) as harness:
            harness.send({"id": 1, "amount": 5, "failures": 1})
            await harness.until_done(seconds=10)
    assert "until 1 messages are settled; 0 are" in str(raised.value.exceptions[0])


async def test_what_is_to_be_held_back_is_seen_at_once() -> None:
    """A test asks for how long, and waits for nothing; a sink that cannot hold back cannot in a test either."""
    worker = Reminders()
    async with WorkerHarness(worker) as harness:
        harness.send({"id": 1})
        await harness.until_done()
        assert [(letter.body, letter.delay) for letter in harness.outputs] == [({"remind": 1}, 3600.0)]
    on_kafka = Reminders()
    on_kafka.sink = KafkaProducer("reminders", bootstrap_servers="nowhere:9092")
    async with WorkerHarness(on_kafka) as harness:
        harness.send({"id": 1})
        await harness.until_done()
        assert not harness.outputs and len(harness.dead_letters) == 1


class Reminders(Worker[Any]):
    """Has somebody reminded in an hour."""

    source = KafkaConsumer("orders", bootstrap_servers="nowhere:9092")
    sink: Any = RedisStreamsProducer("reminders", url="redis://nowhere")

    async def process(self, message: Message[Any]) -> Any:
        return Output(None, {"remind": message.body["id"]}, delay=3600)
