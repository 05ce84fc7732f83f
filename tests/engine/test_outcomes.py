"""What a handler may do with a message, and in which order messages run."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.codecs import JSON
from pythia_core.contracts import Message
from pythia_core.errors import Reject, Retry, Skip
from tests.engine.bench import Seen, make, running

ACKS = pytest.mark.parametrize("ack", ["individual", "cumulative", "both"])


@ACKS
async def test_what_returns_is_settled(ack: str) -> None:
    """Every message is run once and settled, however the source acknowledges."""
    seen = Seen()
    async with running(seen, *[b"%d" % n for n in range(50)], ack=ack) as bench:
        await bench.until_settled(50)
        assert sorted(seen) == sorted(b"%d" % n for n in range(50))
        assert bench.engine.stats.in_flight == 0
        assert bench.engine.stats.finished == bench.engine.stats.settled == 50


@pytest.mark.parametrize(
    ("order", "most"), [("key", 2), ("partition", 1), ("none", 4)], ids=["key", "partition", "none"]
)
async def test_as_many_run_at_once_as_the_order_allows(order: str, most: int) -> None:
    """By key one of each key, by partition one, without order all: here of four messages with two keys."""
    gate, running_now = anyio.Event(), set[bytes]()

    async def handler(message: Message[Any]) -> None:
        running_now.add(message.raw)
        await gate.wait()
        running_now.discard(message.raw)

    async with running(
        handler, b"a1", b"a2", b"b1", b"b2", keys="aabb", ack="cumulative", order=order
    ) as bench:
        await bench.until(lambda: len(running_now) == most, f"{most} are running")
        await anyio.wait_all_tasks_blocked()
        assert len(running_now) == most
        gate.set()
        await bench.until_settled(4)


@pytest.mark.parametrize(
    ("scope", "chosen", "order"),
    [
        ("partition", None, "key"),
        ("consumer", None, "none"),
        ("none", None, "none"),
        ("consumer", "key", "key"),
    ],
)
async def test_the_order_is_that_of_the_source_unless_it_is_set(scope: Any, chosen: Any, order: str) -> None:
    """By key where a broker keeps the messages of a key together; elsewhere only on request."""
    async with running(Seen(), order_scope=scope, order=chosen) as bench:
        await bench.until(lambda: bench.engine.health().ready, "it is subscribed")
        assert bench.engine.scheduler.order == order


@ACKS
@pytest.mark.parametrize("order", ["key", "partition"])
async def test_messages_of_a_key_run_in_order(order: str, ack: str) -> None:
    """Also if handlers let others run, and some fail and are tried again."""
    seen = Seen()
    tried: set[bytes] = set()

    async def script(message: Message[Any]) -> None:
        await anyio.lowlevel.checkpoint()
        if int(message.raw[1:]) % 7 == 0 and message.raw not in tried:
            tried.add(message.raw)
            seen.remove(message.raw)
            raise Retry(0.001)

    seen.script = script
    bodies = [b"%s%d" % (b"abc"[n % 3 : n % 3 + 1], n) for n in range(120)]
    keys = [body[:1].decode() for body in bodies]
    async with running(seen, *bodies, keys=keys, ack=ack, order=order) as bench:
        await bench.until_settled(120)
    for key in (b"a", b"b", b"c"):
        assert [raw for raw in seen if raw.startswith(key)] == [raw for raw in bodies if raw.startswith(key)]


async def test_messages_without_a_key_do_not_wait_for_one_another() -> None:
    """With order by key, a message without one is nobody's successor."""
    gate = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"1":
            await gate.wait()

    async with running(handler, b"1", b"2", b"3", order="key") as bench:
        await bench.until_settled(2)
        gate.set()
        await bench.until_settled(3)


async def test_skip_settles() -> None:
    """A skipped message is done and counted apart."""

    async def handler(message: Message[Any]) -> None:
        raise Skip("a duplicate")

    async with running(handler, b"1") as bench:
        await bench.until_settled(1)
        assert (bench.engine.stats.skipped, bench.engine.stats.failures) == (1, 0)
        assert bench.dead == []


@pytest.mark.parametrize("body", [b"{", b"\xff"])
async def test_a_body_that_cannot_be_decoded_is_a_dead_letter_at_once(body: bytes) -> None:
    """No second attempt would help."""

    async def handler(message: Message[Any]) -> None:
        message.body  # noqa: B018

    async with running(handler, body, codec=JSON) as bench:
        await bench.until_settled(1)
        assert [record.value for record in bench.dead] == [body]
        assert bench.engine.stats.failures == 1


async def test_reject_is_a_dead_letter_at_once() -> None:
    """Its reason is in the dead letter."""

    async def handler(message: Message[Any]) -> None:
        raise Reject("no such customer")

    async with running(handler, b"1") as bench:
        await bench.until_settled(1)
        assert bench.dead[0].headers["pythia-error-message"] == "no such customer"
        assert bench.engine.stats.failures == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
async def test_whatever_a_handler_raises_is_its_messages_failure(kind: type[BaseException]) -> None:
    """Nothing that a handler raises ends the worker."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"bad":
            raise kind

    async with running(handler, b"bad", b"good", max_concurrent_tasks=1) as bench:
        await bench.until_settled(2)
        assert [record.value for record in bench.dead] == [b"bad"]
        assert bench.engine.stats.failures == 3


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_is_not_ours_is_the_messages_failure() -> None:
    """A client library that cancels its own calls lets CancelledError out of a handler."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"bad":
            raise asyncio.CancelledError

    async with running(handler, b"bad", b"good", max_concurrent_tasks=1) as bench:
        await bench.until_settled(2)
        assert [record.value for record in bench.dead] == [b"bad"]


async def test_the_engines_own_cancellation_is_nobodys_failure() -> None:
    """Whoever cancels the task that runs the engine ends it; the message is not settled and no dead letter."""
    started = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        started.set()
        await anyio.sleep_forever()

    broker = MemoryBroker()
    broker.publish("orders", b"1")
    engine = make(broker, handler, dead_letter=None)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await started.wait()
        group.cancel_scope.cancel()
    assert engine.stats.failures == 0
    assert len(broker.waiting("orders")) == 1
