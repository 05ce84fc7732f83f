"""What handlers return is written, and a message is settled only when all of it is confirmed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Message, Output, WriteResult
from pythia_core.errors import Retry, WriteError
from tests.engine.bench import Seen, running


@asynccontextmanager
async def producers(broker: MemoryBroker, *topics: str) -> AsyncIterator[list[MemoryProducer]]:
    """Open sinks for these topics."""
    sinks = [MemoryProducer(topic, broker=broker) for topic in topics]
    for sink in sinks:
        await sink.open()
    yield sinks


def written(broker: MemoryBroker, topic: str) -> list[bytes]:
    """Return the bodies in a topic."""
    return [record.value for record in broker.records(topic)]


async def echo(message: Message[Any]) -> bytes:
    """Return the body."""
    return message.raw


async def test_what_a_handler_returns_goes_to_the_workers_sink() -> None:
    """Each value once."""
    broker = MemoryBroker()
    async with (
        producers(broker, "out") as (out,),
        running(echo, b"1", b"2", broker=broker, sink=out) as bench,
    ):
        await bench.until_settled(2)
        assert sorted(written(broker, "out")) == [b"1", b"2"]
        assert bench.engine.stats.outputs == 2


async def test_what_is_confirmed_is_not_searched_for_each_output() -> None:
    """A sink may name the confirmed ones in a list: five hundred searches in five hundred would cost more than writing."""

    class Once(list[int]):
        def __contains__(self, index: object) -> bool:
            raise AssertionError("it is searched")

    class Listing(MemoryProducer):
        async def write(self, outputs: Sequence[Output]) -> WriteResult:
            return WriteResult(Once((await super().write(outputs)).confirmed))

    broker = MemoryBroker()
    async with (
        Listing("out", broker=broker) as out,
        running(echo, b"1", b"2", broker=broker, sink=out) as bench,
    ):
        await bench.until_settled(2)
        assert sorted(written(broker, "out")) == [b"1", b"2"]


async def test_without_a_sink_what_is_returned_is_dropped() -> None:
    """The message is done all the same."""
    async with running(echo, b"1") as bench:
        await bench.until_settled(1)
        assert bench.engine.stats.outputs == 0


async def test_a_message_is_unsettled_until_its_output_is_confirmed_and_its_worker_is_free() -> None:
    """P1: one worker runs the next message while the output of the first is still on its way."""
    broker, seen = MemoryBroker(), Seen(echo)
    broker.hold("write", confirm := anyio.Event())
    async with (
        producers(broker, "out") as (out,),
        running(seen, b"1", b"2", broker=broker, sink=out, max_concurrent_tasks=1) as bench,
    ):
        await bench.until(lambda: len(seen) == 2, "both have run")
        await anyio.wait_all_tasks_blocked()
        assert (bench.settled, bench.engine.stats.in_flight) == ([], 2)
        confirm.set()
        await bench.until_settled(2)


async def test_the_key_stays_closed_until_the_output_is_confirmed() -> None:
    """The next message of the key starts only then."""
    broker, seen = MemoryBroker(), Seen(echo)
    broker.hold("write", confirm := anyio.Event())
    async with producers(broker, "out") as (out,):
        options: dict[str, Any] = {"keys": ["a", "a"], "order": "key"}
        async with running(seen, b"1", b"2", broker=broker, sink=out, **options) as bench:
            await bench.until(lambda: bench.writing, "an output is on its way")
            await anyio.wait_all_tasks_blocked()
            assert seen == [b"1"]
            confirm.set()
            await bench.until_settled(2)
            assert written(broker, "out") == [b"1", b"2"]


async def test_a_failed_branch_is_retried_alone() -> None:
    """P2: the sink that confirmed gets nothing twice, and the handler is not run again."""
    broker = MemoryBroker()
    broker.fail_next("write", topic="bad", times=2)
    async with producers(broker, "good", "bad") as (good, bad):

        async def fan_out(message: Message[Any]) -> list[Output]:
            return [Output(good, message.raw), Output(bad, message.raw, key="k", headers={"h": "v"})]

        seen = Seen(fan_out)
        async with running(seen, b"1", broker=broker) as bench:
            await bench.until(lambda: written(broker, "good"), "one branch is written")
            assert bench.settled == []
            await bench.until_settled(1)
            assert (seen, written(broker, "good"), written(broker, "bad")) == ([b"1"], [b"1"], [b"1"])
            (record,) = broker.records("bad")
            assert (record.key, record.headers["h"]) == ("k", "v")


@pytest.mark.parametrize("times", [1, 2])
async def test_a_failed_output_holds_back_later_ones_of_its_key_only(times: int) -> None:
    """P3: order per key holds through failures; other keys are written at once."""
    broker = MemoryBroker()
    broker.fail_indexes({0: WriteError("busy")}, times=times)
    async with producers(broker, "out") as (out,):

        async def handler(message: Message[Any]) -> Output:
            return Output(None, message.raw, key=message.raw[:1].decode())

        bodies = [b"a1", b"b1", b"a2", b"b2", b"a3"]
        async with running(handler, *bodies, broker=broker, sink=out, max_concurrent_tasks=1) as bench:
            await bench.until_settled(5)
        values = written(broker, "out")
        assert [v for v in values if v[:1] == b"a"] == [b"a1", b"a2", b"a3"]
        assert [v for v in values if v[:1] == b"b"] == [b"b1", b"b2"]


async def test_an_output_waits_for_one_of_its_key_that_failed_earlier() -> None:
    """P3: also one that comes while the first waits for its next attempt."""
    broker = MemoryBroker()
    broker.fail_indexes({0: WriteError("busy")}, topic="out")
    async with producers(broker, "out") as (out,):

        async def handler(message: Message[Any]) -> Output:
            return Output(None, message.raw, key="k")

        async with running(handler, b"1", broker=broker, sink=out) as bench:
            await bench.until(lambda: bench.writing or written(broker, "out"), "it is on its way")
            (writer,) = bench.engine.publisher._lanes.values()
            await bench.until(lambda: writer._held or written(broker, "out"), "it has failed")
            bench.send(b"2")
            await bench.until_settled(2)
        assert written(broker, "out") == [b"1", b"2"]


async def test_an_output_that_can_never_be_written_is_a_dead_letter_at_once() -> None:
    """P4: the handler is not run again, and the dead letter names the sink and its reason."""
    broker, seen = MemoryBroker(), Seen(echo)
    broker.fail_indexes({0: WriteError("too large", permanent=True)}, topic="out")
    async with producers(broker, "out") as (out,), running(seen, b"1", broker=broker, sink=out) as bench:
        await bench.until_settled(1)
        assert seen == [b"1"]
        text = str(bench.dead[0].headers["pythia-error-message"])
        assert out.name in text and "too large" in text
        assert written(broker, "out") == []


async def test_an_output_to_a_sink_that_is_not_open_says_so() -> None:
    """It is a dead letter that names the sink, and is not tried for ever."""
    closed = MemoryProducer("out", broker=MemoryBroker())

    async def handler(message: Message[Any]) -> Output:
        return Output(closed, message.raw)

    async with running(handler, b"1") as bench:
        await bench.until_settled(1)
        text = str(bench.dead[0].headers["pythia-error-message"])
        assert closed.name in text and "NotOpenError" in text


async def test_what_lists_mean() -> None:
    """An empty list or tuple writes nothing, a list of outputs fans out, and any other list is one body."""
    broker = MemoryBroker()
    async with producers(broker, "out") as (out,):
        results: dict[bytes, Any] = {
            b"1": [],
            b"2": (),
            b"3": [Output(None, b"x"), Output(None, b"y")],
            b"4": [1, "two"],
        }

        async def handler(message: Message[Any]) -> Any:
            return results[message.raw]

        async with running(handler, *results, broker=broker, sink=out, max_concurrent_tasks=1) as bench:
            await bench.until_settled(4)
            assert bench.dead == []
        assert written(broker, "out") == [b"x", b"y", b'[1,"two"]']


async def test_a_sink_may_be_used_inside_the_handler_too() -> None:
    """``await sink.send(x)`` raises what goes wrong, and that is the message's failure like any other."""
    broker = MemoryBroker()
    broker.fail_next("write")
    async with producers(broker, "out") as (out,):

        async def handler(message: Message[Any]) -> None:
            await out.send(message.raw)

        async with running(handler, b"1", broker=broker) as bench:
            await bench.until_settled(1)
            assert written(broker, "out") == [b"1"]
            assert bench.engine.stats.failures == 1


async def test_a_result_of_a_failed_attempt_is_not_written() -> None:
    """Only the attempt that returns has outputs."""
    broker = MemoryBroker()
    async with producers(broker, "out") as (out,):

        async def handler(message: Message[Any]) -> bytes:
            if message.attempt == 1:
                raise Retry(0.0)
            return message.raw

        async with running(handler, b"1", broker=broker, sink=out) as bench:
            await bench.until_settled(1)
            assert written(broker, "out") == [b"1"]


async def test_an_output_keeps_its_delay_on_its_way_to_the_workers_sink() -> None:
    """One that names no sink is given the worker's, and nothing else of it changes."""
    broker = MemoryBroker()

    async def later(message: Message[Any]) -> Output:
        return Output(None, message.raw, delay=3600)

    async with (
        producers(broker, "out") as (out,),
        running(later, b"1", broker=broker, sink=out) as bench,
    ):
        await bench.until_settled(1)
    assert [(record.value, record.delay) for record in broker.held("out")] == [(b"1", 3600)]
    assert written(broker, "out") == []


async def test_no_output_with_a_delay_reaches_a_sink_that_cannot_hold_it_back() -> None:
    """P6: its message is a dead letter that says what to do, and what is beside it is written."""
    broker = MemoryBroker()
    out = Heedless("out", broker=broker, delays=False)

    async def later(message: Message[Any]) -> Output:
        return Output(None, message.raw, delay=5 if message.raw == b"1" else None)

    async with out, running(later, b"1", b"2", broker=broker, sink=out) as bench:
        await bench.until_settled(2)
        (letter,) = bench.dead
        text = str(letter.headers["pythia-error-message"])
    assert letter.value == b"1" and "Heedless cannot hold an output back" in text and "Retry(delay)" in text
    assert written(broker, "out") == [b"2"] and broker.held("out") == []


class Heedless(MemoryProducer):
    """A sink of somebody who has never heard of delays: it writes at once whatever it is given."""

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        for output in outputs:
            self.broker.publish(self.topic, output.value)
        return WriteResult(range(len(outputs)))
