"""The processor gate, with a measure that the test decides, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
import trio
import trio.testing

from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from tests.engine.scripted import Scripted

BUSY = "intake stopped: processors busy"


@attrs.define(eq=False)
class Work:
    """Handlers that take a second each, one by one or for a batch, and how many run at once."""

    used: float | None = 50.0  # what the processors are said to be, in per cent
    measured: int = 0
    seconds: float = 1.0
    running: int = 0
    begun: int = 0
    most: int = 0  # since it was set to 0 last
    done: list[bytes] = attrs.field(factory=list)

    def measure(self) -> float | None:
        self.measured += 1
        return self.used

    async def __call__(self, messages: Any) -> None:
        self.running += 1
        self.begun += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.running -= 1
        self.done += [message.raw for message in (messages if isinstance(messages, list) else [messages])]


@asynccontextmanager
async def running(source: Scripted, work: Work, **settings: Any) -> AsyncIterator[Engine]:
    """Run an engine with eight workers and a bound of 80 per cent."""
    batch = settings.pop("batch", False)
    engine = Engine(
        source,
        work,
        Settings(**{"max_cpu_percent": 80.0, "max_concurrent_tasks": 8, "drain_timeout": 1.0, **settings}),
        batch=batch,
        processor=work.measure,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await trio.sleep(0.1)
        yield engine
        engine.force()


def bodies(count: int) -> list[bytes]:
    """Return so many bodies that differ."""
    return [str(number).encode() for number in range(count)]


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which a minute takes no time."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


async def most_of(work: Work, seconds: float) -> int:
    """Return how many ran at once at the most in the next seconds, but for those that had begun before."""
    await trio.sleep(work.seconds)
    work.most = 0
    await trio.sleep(seconds)
    return work.most


@pytest.mark.parametrize("batch", [False, True])
def test_fewer_run_while_the_processors_are_busy(batch: bool) -> None:
    """Y1, Q1: halved each second, down to one; what runs goes on, and one works on however busy they stay."""

    async def main() -> None:
        source, work = Scripted(), Work()
        async with running(source, work, batch=batch, batch_size=1) as engine:
            source.deliver(*bodies(150))
            await trio.sleep(2.5)
            assert work.running == 8
            work.used = 95
            await trio.sleep(2.5)
            assert 1 <= await most_of(work, 2) <= 2
            await trio.sleep(3)
            assert await most_of(work, 5) == 1
            assert BUSY in engine.health().reasons
            assert engine.health().ready
            before = len(work.done)
            await trio.sleep(10)
            assert len(work.done) - before in (9, 10, 11)

    in_virtual_time(main)


@pytest.mark.parametrize("batch", [False, True])
def test_more_run_again_step_by_step(batch: bool) -> None:
    """Y2, Q3: not yet between 90 % of the bound and the bound; below, one more each second, until all do and the reason is gone."""

    async def main() -> None:
        source, work = Scripted(), Work(used=95)
        async with running(source, work, batch=batch, batch_size=1) as engine:
            source.deliver(*bodies(250))
            await trio.sleep(6)
            assert await most_of(work, 3) == 1
            work.used = 75
            assert await most_of(work, 10) == 1
            work.used = 71
            await trio.sleep(3)
            assert 2 <= work.running <= 5
            await trio.sleep(8)
            assert await most_of(work, 3) == 8
            assert engine.health().reasons == ()
            await trio.sleep(30)
            assert sorted(work.done) == sorted(bodies(250))

    in_virtual_time(main)


def test_what_others_could_do_is_left_to_them() -> None:
    """Y3: one worker has eight messages lying ready; no more are fetched, and again as they are done."""

    async def main() -> None:
        source, work = Scripted(), Work(used=95)
        async with running(source, work):
            source.deliver(*bodies(8))
            await trio.sleep(6)  # eight at once before it was seen, so all are done
            source.deliver(*bodies(9))
            await trio.sleep(0.5)
            assert source.rooms[-1] == {}, "one runs and eight wait"
            await trio.sleep(3)
            assert max(source.limits[-3:]) in (2, 3, 4)
            source.deliver(*bodies(1))
            await trio.sleep(20)
            assert source.limits[-1] == 8
            assert len(work.done) == 18

    in_virtual_time(main)


@pytest.mark.parametrize("batch", [False, True])
def test_a_worker_on_the_bench_keeps_no_message_waiting(batch: bool) -> None:
    """Q2: of many that sleep those that are woken go to the bench one after the other, until one takes the message."""

    async def main() -> None:
        source, work = Scripted(), Work(used=95, seconds=0.01)
        async with running(source, work, batch=batch, batch_size=1) as engine:
            await trio.sleep(5)  # all of them sleep
            assert engine.pool.places.benched == 0
            source.deliver(b"1")
            await trio.sleep(0.05)
            assert work.done == [b"1"]
            assert engine.pool.places.benched == 7
            source.deliver(b"2")
            await trio.sleep(0.05)
            assert work.done == [b"1", b"2"]

    in_virtual_time(main)


def test_a_pause_and_a_bench_do_not_end_each_other() -> None:
    """Whoever is freed during a pause begins nothing, and the end of a pause frees nobody from the bench."""

    async def main() -> None:
        source, work = Scripted(), Work(used=95)
        async with running(source, work) as engine:
            source.deliver(*bodies(100))
            await trio.sleep(6)
            engine.pool.pause()
            await trio.sleep(2)
            assert work.running == 0
            work.used = 10
            await trio.sleep(3)
            assert work.running == 0
            work.used = 95
            await trio.sleep(4)
            engine.pool.resume()
            await trio.sleep(2)
            assert await most_of(work, 5) == 1
            work.used = None  # it cannot tell, so nothing changes
            assert await most_of(work, 5) == 1

    in_virtual_time(main)


def test_a_worker_whose_handler_is_cancelled_is_replaced_by_one() -> None:
    """The place of an overdue handler is taken again, by no more than one."""

    async def main() -> None:
        source, work = Scripted(), Work(used=95)
        async with running(source, work, handler_timeout=0.5, order="none"):
            source.deliver(*bodies(60))
            await trio.sleep(10)
            before = work.begun
            await trio.sleep(10)  # half a second each, and a sweep's quarter at the most
            assert 10 <= work.begun - before <= 21

    in_virtual_time(main)


def test_without_a_bound_nothing_is_measured() -> None:
    """It costs nothing."""

    async def main() -> None:
        work = Work(used=100)
        async with running(Scripted(), work, max_cpu_percent=None) as engine:
            await trio.sleep(3)
            assert (work.measured, engine.health().reasons) == (0, ())

    in_virtual_time(main)


def test_a_stop_drains_with_workers_on_the_bench() -> None:
    """What runs ends, what has not begun is given back, and nobody waits for the bench."""

    async def main() -> None:
        source, work = Scripted(), Work(used=95)
        async with running(source, work, drain_timeout=5.0) as engine:
            source.deliver(*bodies(30))
            await trio.sleep(6.2)
            began = trio.current_time()
            engine.stop()
            while not source.closed:  # noqa: ASYNC110 - in virtual time
                await trio.sleep(0.1)
            assert trio.current_time() - began < 2
            assert len(source.done) == len(work.done)
            assert len(source.released) == 30 - len(work.done)

    in_virtual_time(main)
