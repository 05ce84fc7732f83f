"""Dead letters: whole, confirmed before the original is settled, and never silently given up."""

from __future__ import annotations

import hashlib
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Headers, HeaderValue, Message
from pythia_core.engine.dead_letters import dead_letter
from pythia_core.errors import Reject, WriteError
from tests.engine.bench import Bench, Seen, running

HEADERS = {
    "source",
    "partition",
    "position",
    "id",
    "key",
    "timestamp",
    "group",
    "error",
    "error-message",
    "attempts",
    "first-failure",
    "last-failure",
    "worker",
}


async def fail(message: Message[Any]) -> None:
    """Fail for good."""
    raise Reject("bad\nluck \x1b[31m")


async def test_a_dead_letter_says_everything() -> None:
    """Body, key and headers are the original's, duplicates included; ours are beside them, fit for any terminal."""
    broker = MemoryBroker()
    headers: list[tuple[str, HeaderValue]] = [
        ("trace", "1"),
        ("trace", "2"),
        ("raw", b"\xff"),
        ("none", None),
        ("pythia-error", "forged"),
    ]
    broker.publish("orders", b"\x00\xff body", key="k", headers=headers, id="m-1", timestamp=0.0)
    async with running(fail, broker=broker, ack="cumulative") as bench:
        await bench.until_settled(1)
        (letter,) = bench.dead
    assert (letter.value, letter.key) == (b"\x00\xff body", "k")
    pairs = letter.headers.items_all()
    assert pairs[:4] == tuple(headers[:4])
    assert {name.removeprefix("pythia-") for name, _ in pairs[4:]} == HEADERS
    said = {name.removeprefix("pythia-"): value for name, value in pairs[4:]}
    assert len(said) == len(pairs[4:])
    assert said["source"] == "orders" and said["group"] == "default" and said["worker"] == "tests"
    assert (said["partition"], said["position"], said["id"], said["key"]) == ("0", "0", "m-1", "k")
    assert said["timestamp"] == "1970-01-01T00:00:00+00:00"
    assert said["error"] == "pythia_core.errors.Reject"
    assert said["error-message"] == r"bad\nluck \x1b[31m"
    assert said["attempts"] == "1"
    assert str(said["first-failure"]) <= str(said["last-failure"])


@pytest.mark.parametrize("ack", ["individual", "cumulative", "both"])
async def test_a_dead_letter_is_confirmed_before_its_message_is_settled(ack: str) -> None:
    """D2: while its place cannot be written to nothing is settled, and the handler is not run again."""
    broker, seen = MemoryBroker(), Seen(fail)
    broker.hold("write", healed := anyio.Event(), topic="orders.dlq")
    broker.fail_next("write", topic="orders.dlq")
    async with running(seen, b"1", b"2", broker=broker, ack=ack, keys=["a", "a"], order="key") as bench:
        await bench.until(lambda: bench.writing, "the dead letter is on its way")
        await anyio.wait_all_tasks_blocked()
        assert (bench.settled, bench.dead, seen) == ([], [], [b"1"])
        healed.set()
        await bench.until_settled(2)
        assert [letter.value for letter in bench.dead] == [b"1", b"2"] == seen
        assert bench.engine.stats.dead_lettered == 2


async def test_a_dead_letter_whose_confirmation_is_lost_is_written_again() -> None:
    """Twice is better than never; and whole, since a failure that may pass is no reason for a reference."""
    broker = MemoryBroker()
    broker.drop_reply("write", topic="orders.dlq")
    async with running(fail, b"1", broker=broker) as bench:
        await bench.until_settled(1)
        assert [letter.value for letter in bench.dead] == [b"1", b"1"]
        assert not any("pythia-body-bytes" in letter.headers for letter in bench.dead)
        assert bench.engine.stats.dead_lettered == 1


async def test_a_dead_letter_that_can_never_be_written_whole_becomes_a_reference() -> None:
    """The first 4,096 bytes, the size and the checksum are kept."""
    broker, body = MemoryBroker(), b"0123456789" * 1000
    broker.fail_indexes({0: WriteError("too large", permanent=True)}, topic="orders.dlq")
    async with running(fail, body, broker=broker) as bench:
        await bench.until_settled(1)
        (letter,) = bench.dead
    assert letter.value == body[:4096]
    assert letter.headers["pythia-body-bytes"] == "10000"
    assert letter.headers["pythia-body-sha256"] == hashlib.sha256(body).hexdigest()


def test_a_reference_keeps_what_is_short() -> None:
    """Whoever writes a key or headers as large as a broker takes does not stop a partition: its reference has room."""
    headers: list[tuple[str, HeaderValue]] = [
        ("short", "1"),
        ("n" * 101, "2"),
        ("long", b"v" * 1025),
        *((f"h{n}", "v" * 1000) for n in range(99)),
    ]
    message = Message[Any](b"x" * 5000, key="k" * 2000, headers=Headers(headers))
    names = {"source": "orders", "group": "", "worker": "w"}
    letter, whole = (
        dead_letter(message, ValueError("no"), MemoryProducer("dead"), reference=reference, **names)
        for reference in (True, False)
    )
    kept = dict(letter.headers or ())
    assert letter.key is None and letter.value == b"x" * 4096
    assert kept["short"] == "1" and "h0" in kept and not {"n" * 101, "long", "h98"} & set(kept)
    assert kept["pythia-key"] == "k" * 1024 and kept["pythia-body-bytes"] == "5000"
    assert sum(len(name) + len(value or "") for name, value in kept.items()) < 32_768
    assert whole.key == message.key and set(dict(headers)) <= set(dict(whole.headers or ()))


async def stopped(bench: Bench, why: str) -> None:
    """Wait until the partition has stopped; nothing is settled, and the worker says why it is not ready."""
    await bench.until(lambda: bench.held, "the partition has stopped")
    health = bench.engine.health()
    assert health.live and not health.ready
    assert why in health.reasons[0]
    assert bench.settled == []
    assert bench.engine.stats.in_flight == 1


async def test_without_a_place_for_dead_letters_the_partition_stops() -> None:
    """D3: the message is neither settled nor run again, nothing more is fetched, and a stop gives it back."""
    seen = Seen(fail)
    async with running(seen, b"1", dead_letter=None) as bench:
        await stopped(bench, "no place for dead letters")
        bench.send(b"2")
        await anyio.wait_all_tasks_blocked()
        assert seen == [b"1"]
        bench.engine.stop()
        await bench.ended()
        assert [record.value for record in bench.broker.waiting("orders")] == [b"1", b"2"]


async def test_a_reference_that_can_never_be_written_stops_the_partition() -> None:
    """Then nothing is lost, and somebody has to look."""
    broker = MemoryBroker()
    error = WriteError("no such topic", permanent=True)
    broker.fail_indexes({0: error}, times=2, topic="orders.dlq")
    async with running(fail, b"1", broker=broker) as bench:
        await stopped(bench, "no such topic")


async def test_other_partitions_go_on_when_one_stops() -> None:
    """Only the partition of the message that cannot be buried is held."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"bad":
            raise Reject

    broker = MemoryBroker(partitions=2)
    async with running(handler, broker=broker, ack="cumulative", dead_letter=None) as bench:
        bench.send(b"bad", partition=0)
        await bench.until(lambda: bench.held, "the partition has stopped")
        bench.send(b"1", b"2", partition=1)
        await bench.until_settled(2)
        assert bench.broker.committed("orders", partition=0) == 0
