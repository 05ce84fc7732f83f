"""What the time, a stop, a revoke and a lost lease do to a batch that waits or is at work. All in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Assignment, Capabilities, Message, Output, Refusals, Refused, Settlement
from pythia_core.engine.engine import Engine
from pythia_core.errors import BatchError
from pythia_core.settings import RetryPolicy, Settings
from tests.engine.scripted import Scripted

CUMULATIVE = Capabilities(ack="cumulative", order_scope="partition")
QUICK = RetryPolicy(attempts=3, base=0.0, cap=0.0)

Batch = Sequence[Message[Any]]


class Calls(list[list[bytes]]):
    """A batch handler that writes down the bodies and the time of each call, and does what ``script`` says."""

    def __init__(self, script: Callable[[Batch], Awaitable[Any]] | None = None) -> None:
        super().__init__()
        self.script = script
        self.times: list[float] = []

    async def __call__(self, batch: Batch) -> Any:
        """Write down, then do it."""
        self.append([message.raw for message in batch])
        self.times.append(round(trio.current_time(), 1))
        return None if self.script is None else await self.script(batch)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which an hour takes no time, from the hour 0 on."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.001))


@asynccontextmanager
async def working(source: Scripted, handler: Calls, **options: Any) -> AsyncIterator[Engine]:
    """Run an engine with one worker, unless told otherwise, that takes four messages at once."""
    places = {name: options.pop(name) for name in ("sink", "dead_letter") if name in options}
    settings = {"batch_size": 4, "max_concurrent_tasks": 1, "retry": QUICK, **options}
    engine = Engine(source, handler, Settings(**settings), batch=True, **places)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await trio.testing.wait_all_tasks_blocked()
        yield engine
        engine.force()


# -- waiting to be full ----------------------------------------------------------------------------------------------


def test_a_batch_waits_from_its_first_message_on() -> None:
    """B1: what comes later does not make it wait any longer."""

    async def main() -> None:
        source, handler = Scripted(), Calls()
        async with working(source, handler, batch_timeout=10.0):
            source.deliver(b"1")
            await trio.sleep(9)
            source.deliver(b"2", first=1)
            await trio.sleep(9)
            assert (handler, handler.times) == ([[b"1", b"2"]], [10.0])

    in_virtual_time(main)


def test_what_came_while_all_were_busy_has_waited_already() -> None:
    """B1: the time counts from when the first of it came, not from when the last did, or a worker was free for it."""

    async def script(batch: Batch) -> None:
        if batch[0].raw == b"long":
            await trio.sleep(30)

    async def main() -> None:
        source, handler = Scripted(), Calls(script)
        async with working(source, handler, batch_timeout=10.0):
            source.deliver(b"long", b"x", b"x", b"x")
            await trio.sleep(5)
            source.deliver(b"early", first=4)
            await trio.sleep(20)
            source.deliver(b"late", first=5)
            await trio.sleep(20)
            assert handler[1] == [b"early", b"late"]
            assert handler.times == [0.0, 30.0]

    in_virtual_time(main)


def test_the_wait_begins_anew_with_what_a_batch_leaves_behind() -> None:
    """B1: it has not waited for as long as the ones before it."""

    async def main() -> None:
        source, handler = Scripted(), Calls()
        async with working(source, handler, batch_timeout=10.0):
            source.deliver(b"1")
            await trio.sleep(5)
            source.deliver(*[b"x"] * 4, first=1)
            await trio.sleep(20)
            assert [len(batch) for batch in handler] == [4, 1]
            assert handler.times == [5.0, 15.0]

    in_virtual_time(main)


def test_workers_of_batches_settle_when_idle() -> None:
    """All but one of the idle wait for their turn to take a batch, and are idle all the same."""

    async def main() -> None:
        source = Scripted()
        async with working(source, Calls(), batch_timeout=60.0, max_concurrent_tasks=3):
            source.deliver(*[b"x"] * 4)
            await trio.sleep(1)
            assert source.done == {0, 1, 2, 3}

    in_virtual_time(main)


# -- too long --------------------------------------------------------------------------------------------------------


def test_a_batch_that_is_overdue_is_taken_apart() -> None:
    """B6: each message runs alone then; the slow one fails by itself, and the others have lost no attempt."""
    attempts: list[tuple[bytes, int]] = []

    async def script(batch: Batch) -> None:
        attempts.extend((message.raw, message.attempt) for message in batch)
        if any(message.raw == b"slow" for message in batch):
            await trio.sleep_forever()

    async def main() -> None:
        source, handler, broker = Scripted(), Calls(script), MemoryBroker()
        async with (
            MemoryProducer("dead", broker=broker) as dead,
            working(source, handler, dead_letter=dead, handler_timeout=5.0, batch_timeout=0.1) as engine,
        ):
            source.deliver(b"1", b"slow", b"2")
            await trio.sleep(60)
            assert handler[0] == [b"1", b"slow", b"2"]
            assert sorted(handler[1:]) == [[b"1"], [b"2"], [b"slow"], [b"slow"], [b"slow"]]
            assert sorted(attempts[3:]) == [(b"1", 1), (b"2", 1), *[(b"slow", n) for n in (1, 2, 3)]]
            assert [record.value for record in broker.records("dead")] == [b"slow"]
            assert source.done == {0, 1, 2}
            assert len(engine.pool.slots) == 1, "the cancelled workers have ended"

    in_virtual_time(main)


def test_each_half_has_all_the_time_of_its_own() -> None:
    """A batch that took long to fail does not leave its halves less time, nor does the first half the second."""

    async def script(batch: Batch) -> None:
        await trio.sleep(3)
        if len(batch) == 4:
            raise ValueError

    async def main() -> None:
        source, handler = Scripted(), Calls(script)
        async with working(source, handler, handler_timeout=5.0) as engine:
            source.deliver(b"1", b"2", b"3", b"4")
            await trio.sleep(30)
            assert handler == [[b"1", b"2", b"3", b"4"], [b"1", b"2"], [b"3", b"4"]]
            assert (engine.stats.failures, source.done) == (0, {0, 1, 2, 3})

    in_virtual_time(main)


# -- a stop ----------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_a_batch_at_work() -> None:
    """What it holds is done and settled; what waits for the next one is given back."""

    async def script(batch: Batch) -> None:
        await trio.sleep(10)

    async def main() -> None:
        source, handler = Scripted(), Calls(script)
        async with working(source, handler) as engine:
            source.deliver(*[b"x"] * 6)
            await trio.sleep(5)
            engine.stop()
            await trio.sleep(10)
        assert [len(batch) for batch in handler] == [4]
        assert (source.done, source.released) == ({0, 1, 2, 3}, [4, 5])
        assert engine.stats.in_flight == 0

    in_virtual_time(main)


def test_a_stop_in_the_middle_of_a_split_finishes_it() -> None:
    """B4: all of the batch has started, so its right half is run too; the one that fails is given back, not failed."""

    async def script(batch: Batch) -> None:
        await trio.sleep(2)
        if any(message.raw == b"poison" for message in batch):
            raise ValueError

    async def main() -> None:
        source, handler = Scripted(), Calls(script)
        async with working(source, handler) as engine:
            source.deliver(b"1", b"2", b"3", b"poison")
            await trio.sleep(3)
            assert len(handler) == 2
            engine.stop()
            await trio.sleep(20)
        assert (source.done, source.released) == ({0, 1, 2}, [3])
        assert (engine.stats.dead_lettered, engine.stats.in_flight) == (0, 0)

    in_virtual_time(main)


def test_what_is_void_when_a_stop_has_begun_is_given_back() -> None:
    """B3: nobody here is going to run it behind the one that failed, so the stop does not wait for that."""

    async def script(batch: Batch) -> None:
        await trio.sleep(10)
        raise BatchError({0: ValueError()})

    async def main() -> None:
        source, handler = Scripted(), Calls(script)
        async with working(source, handler, order="key") as engine:
            source.deliver(b"1", b"2", b"3", b"4", keys=["a", "a", "b", "a"])
            await trio.sleep(5)
            engine.stop()
            await trio.sleep(10)
            assert source.closed, "the stop has ended"
        assert (source.done, sorted(source.released)) == ({2}, [0, 1, 3])
        assert (len(handler), engine.stats.in_flight) == (1, 0)

    in_virtual_time(main)


# -- a revoke and a loss ---------------------------------------------------------------------------------------------


def test_a_batch_that_is_partly_revoked_goes_on() -> None:
    """B5: what is still ours of it is settled, what is not is ignored, and nobody is cancelled for it."""

    async def script(batch: Batch) -> None:
        await trio.sleep(20)

    async def main() -> None:
        source, handler = Scripted(CUMULATIVE, {n: Assignment(n, 0) for n in (0, 1)}), Calls(script)
        async with working(source, handler, order="none", batch_timeout=1.0) as engine:
            source.deliver(b"1", b"2", partition=0)
            source.deliver(b"3", b"4", partition=1)
            await trio.sleep(5)
            assert handler == [[b"1", b"2", b"3", b"4"]]
            await source.owner.revoked([0], trio.current_time() + 5)
            assert trio.current_time() < 11
            await trio.sleep(20)
            assert [(s.partition, s.through) for s in source.settlements] == [(1, 2)]
            assert (len(handler), engine.stats.failures, engine.stats.in_flight) == (1, 0, 0)

    in_virtual_time(main)


def test_a_batch_that_is_revoked_piece_by_piece_is_cancelled_in_the_end() -> None:
    """B5: once nothing of it is ours any more, though each revoke was of a part of it."""

    async def script(batch: Batch) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        source, handler = Scripted(CUMULATIVE, {n: Assignment(n, 0) for n in (0, 1)}), Calls(script)
        async with working(source, handler, order="none", batch_timeout=1.0) as engine:
            source.deliver(b"1", partition=0)
            source.deliver(b"2", partition=1)
            await trio.sleep(5)
            for partition in (0, 1):
                assert engine.stats.in_flight == 2
                await source.owner.revoked([partition], trio.current_time() + 5)
            await trio.sleep(5)
            assert (engine.stats.failures, engine.stats.in_flight) == (0, 0)

    in_virtual_time(main)


def test_a_batch_that_is_revoked_is_cancelled_and_has_not_failed() -> None:
    """B5: at the deadline; its worker's place is taken, and the keys are free when it has ended."""

    async def script(batch: Batch) -> None:
        if trio.current_time() < 5:
            await trio.sleep_forever()

    async def main() -> None:
        source, handler = Scripted(CUMULATIVE, {0: Assignment("a", 0)}), Calls(script)
        async with working(source, handler, batch_timeout=1.0) as engine:
            source.deliver(b"1", b"2", b"3", keys=["a", "a", "b"])
            await trio.sleep(4)
            await source.owner.revoked([0], trio.current_time() + 5)
            source.owner.assigned({0: Assignment("b", 0)})
            source.deliver(b"1", b"2", b"3", keys=["a", "a", "b"])
            await trio.sleep(5)
            assert handler == [[b"1", b"2", b"3"]] * 2
            assert {(s.assignment, s.through) for s in source.settlements} == {("b", 3)}
            assert (engine.stats.failures, engine.stats.in_flight) == (0, 0)

    in_virtual_time(main)


def test_what_a_batch_says_of_a_message_whose_lease_was_lost_is_ignored() -> None:
    """B5, C4: no output of it is written and it is not settled; the rest of the batch is as ever."""

    async def refuse(settlements: Sequence[Settlement]) -> Refusals:
        return [Refused(0, 1, (1,))] if 1 in settlements[0].renewed else ()

    async def script(batch: Batch) -> list[Output]:
        await trio.sleep(15)
        return [Output(None, message.raw) for message in batch]

    async def main() -> None:
        source, handler, broker = (
            Scripted(Capabilities(lease_seconds=30.0), on_settle=refuse),
            Calls(script),
            MemoryBroker(),
        )
        async with (
            MemoryProducer("out", broker=broker) as out,
            working(source, handler, sink=out, batch_timeout=1.0) as engine,
        ):
            source.deliver(b"1", b"lost", b"2")
            await trio.sleep(20)
            assert handler == [[b"1", b"lost", b"2"]]
            assert [record.value for record in broker.records("out")] == [b"1", b"2"]
            assert (source.done, engine.stats.refused, engine.stats.in_flight) == ({0, 2}, 1, 0)

    in_virtual_time(main)
