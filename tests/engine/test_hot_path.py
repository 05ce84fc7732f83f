"""The hot path: what a message may cost is counted, not timed, so that it holds on any machine."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakSet

import anyio
import anyio.lowlevel
import pluggy
import pytest
import trio

from pythia_core.contracts import UNDECODED, Assignment, Capabilities, Chunk, Message, Refusals
from pythia_core.engine import pool
from pythia_core.engine.engine import Engine
from pythia_core.engine.scheduler import STREAK
from pythia_core.settings import Limits, Order, Settings
from tests.engine.byhand import HandEngine
from tests.engine.scripted import Scripted
from tests.waiting import eventually

MANY = 10_000
CUMULATIVE = Capabilities(ack="cumulative", order_scope="partition")
WIDE = Limits(messages=1_000_000, span=1_000_000)


def counting(monkeypatch: pytest.MonkeyPatch, calls: Counter[str], owner: Any, name: str) -> None:
    """Count the calls of a function."""
    original: Callable[..., Any] = getattr(owner, name)
    label = f"{getattr(owner, '__module__', '')}.{getattr(owner, '__qualname__', owner)}.{name}"

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[label] += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


def watch(monkeypatch: pytest.MonkeyPatch, backend: str) -> Counter[str]:
    """Count everything that is dear: tasks, futures, timers, scopes, events, locks, hooks and log records."""
    calls: Counter[str] = Counter()
    owners: list[tuple[Any, str]] = [
        (anyio.Event, "__new__"),
        (anyio.CancelScope, "__new__"),
        (anyio.Lock, "__new__"),
        (anyio, "move_on_after"),
        (anyio, "fail_after"),
        (anyio, "create_task_group"),
        (anyio.lowlevel, "checkpoint"),
        (pool, "checkpoint"),
        (pluggy.HookCaller, "__call__"),
        (__import__("logging").Logger, "_log"),
    ]
    if backend == "asyncio":
        loop = asyncio.get_running_loop()
        owners += [(loop, "call_soon"), (loop, "call_at"), (loop, "create_task"), (loop, "create_future")]
    else:
        owners += [(trio.lowlevel, "reschedule"), (trio.lowlevel, "wait_task_rescheduled")]
    for owner, name in owners:
        counting(monkeypatch, calls, owner, name)
    return calls


class Numbers:
    """Delivers numbered messages in chunks, and stops the engine when all are done."""

    def __init__(self, order: str, keys: int, count: int) -> None:
        self.done = 0
        self.source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
        self.engine = Engine(self.source, self.handle, Settings(order=order, limits=WIDE))  # type: ignore[arg-type]
        self.keys, self.count = keys, count

    async def handle(self, message: Message[Any]) -> None:
        """Do nothing."""
        self.done += 1

    def deliver(self) -> None:
        """Deliver all in one chunk."""
        first = self.done
        keys = [n % self.keys for n in range(self.count)]
        self.source.deliver(*[b"x"] * self.count, first=first, keys=keys)


@pytest.mark.parametrize(("order", "keys"), [("none", 1), ("key", 100), ("partition", 1)])
async def test_nothing_dear_is_made_for_a_message(
    order: str, keys: int, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand messages cost a few hundred calls of anything that has to do with scheduling, and no hook."""
    numbers = Numbers(order, keys, MANY)
    async with anyio.create_task_group() as group:
        group.start_soon(numbers.engine.run)
        await eventually(lambda: numbers.source.rooms, "it fetches")
        await anyio.wait_all_tasks_blocked()
        calls = watch(monkeypatch, anyio_backend)
        numbers.deliver()
        await eventually(lambda: numbers.done == MANY, "all are done")
        monkeypatch.undo()
        numbers.engine.force()
    assert sum(calls.values()) > 0, "nothing was counted"
    assert {name: count for name, count in calls.items() if count > MANY // 20} == {}
    assert not any("HookCaller" in name or "Logger" in name for name in calls)


@pytest.mark.parametrize(("order", "keys"), [("none", 1), ("key", 100)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_memory_is_kept_for_a_message(order: str, keys: int) -> None:
    """Once the messages themselves are gone so is all that the engine knew of them: not one block is left of each."""
    numbers = Numbers(order, keys, MANY)
    blocks: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(numbers.engine.run)
        await eventually(lambda: numbers.source.rooms, "it fetches")
        for round in range(1, 4):
            numbers.deliver()
            await eventually(lambda: numbers.done == MANY * round, "all are done")  # noqa: B023
            await eventually(lambda: numbers.source.settlements[-1:] != [], "some is settled")
            await eventually(lambda: numbers.source.settlements[-1].through == numbers.done, "all is settled")
            numbers.source.rooms.clear()
            gc.collect()
            blocks.append(sys.getallocatedblocks())
        numbers.engine.force()
    assert blocks[2] - blocks[1] < MANY // 20


Ack = Literal["cumulative", "individual", "both"]


class Tracked(Message[Any]):
    """A message of which one can see whether it is still there."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("order", ["none", "key"])
@pytest.mark.parametrize("ack", ["individual", "both", "cumulative"])
async def test_a_message_is_let_go_of_as_soon_as_it_is_done(order: Order, ack: Ack) -> None:
    """Not when it is settled, which comes later: its body is gone by then, unless its user has kept the message."""
    source, kept, alive = Scripted(Capabilities(ack=ack), {0: Assignment("a", 0)}), [], WeakSet[Tracked]()

    async def handler(message: Message[Any]) -> None:
        if message.body == {"id": 500}:
            kept.append(message)

    async def never(settlements: object) -> Refusals:
        await anyio.sleep_forever()
        return ()

    source.on_settle = never
    engine = Engine(source, handler, Settings(order=order, max_concurrent_tasks=1))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        messages = [
            Tracked(b'{"id": %d}' % number, key=str(number % 7), position=number) for number in range(1000)
        ]
        alive.update(messages)
        source.chunks.append(Chunk(0, tuple(messages), 1000))
        messages.clear()
        source.news()
        await eventually(lambda: engine.stats.finished == 1000 and engine.pool.all_idle, "all are done")
        gc.collect()
        assert len(alive) <= 2, "more than what was kept and the last one, which is in the worker's hand"
        assert kept[0].body == {"id": 500}
        kept[0]._body = UNDECODED
        assert kept[0].body == {"id": 500}
        engine.force()


@pytest.mark.parametrize("order", ["none", "key"])
async def test_the_loop_turns_while_the_workers_are_busy(
    order: str, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat on the same loop gets its turn after each 5 ms of work, which twenty workers share.

    The clock is the test's own and moves by 1 ms with each message, so the turns are counted and not timed. Trio runs
    the tasks of a turn in random order: our beat may come first in one turn and last in the next, two turns later.
    """
    now, beats, most, since = 0.0, 0, 0, 0

    async def handler(message: Message[Any]) -> None:
        nonlocal now, since, most
        now += 0.001
        since += 1
        most = max(most, since)

    monkeypatch.setattr("trio._core._run._r", random.Random(1))  # the same order each time
    monkeypatch.setattr("pythia_core.engine.engine.loop_clock", lambda: lambda: now)
    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
    engine = Engine(source, handler, Settings(order=order, limits=WIDE))  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(*[b"x"] * 1000, keys=list(range(1000)))
        while engine.stats.finished < 1000:
            beats += 1
            since = 0
            await anyio.lowlevel.checkpoint()
        engine.force()
    assert most <= pool.STRIDE + (10 if anyio_backend == "trio" else 5)
    assert beats >= 1000 // (pool.STRIDE + 5)


async def test_workers_that_wait_do_not_yield_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their loop turns by itself: twenty of them, each for 0.05 ms, are 1 ms of work in a turn, however long they go on."""
    now, yields = 0.0, 0

    async def handler(message: Message[Any]) -> None:
        nonlocal now
        now += 0.00005
        await anyio.lowlevel.checkpoint()

    async def count_yield() -> None:
        nonlocal yields
        yields += 1
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("pythia_core.engine.engine.loop_clock", lambda: lambda: now)
    monkeypatch.setattr(pool, "checkpoint", count_yield)
    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
    engine = Engine(source, handler, Settings(order="none", limits=WIDE))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(*[b"x"] * MANY)
        await eventually(lambda: engine.stats.finished == MANY, "all are done")
        engine.force()
    assert yields <= 20, "more than the workers' first"


async def test_a_key_with_much_to_do_lets_others_have_their_turn() -> None:
    """After a streak of 64 the key goes to the end of the queue."""
    seen: list[str] = []

    async def handler(message: Message[Any]) -> None:
        seen.append(str(message.key))

    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
    engine = Engine(source, handler, Settings(order="key", limits=WIDE, max_concurrent_tasks=1))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(*[b"x"] * 201, keys=["busy"] * 200 + ["other"])
        await eventually(lambda: len(seen) == 201, "all are done")
        engine.force()
    assert seen.index("other") <= STREAK + 1


@pytest.mark.parametrize("order", ["none", "key"])
def test_a_fetch_wakes_one_worker(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many partitions it is of: that one wakes the next if there is more than it can take."""

    async def handler(message: Message[Any]) -> None:
        raise AssertionError

    hand, woken = HandEngine(CUMULATIVE, Settings(order=order), handler, dead_letters=False), list[int]()
    hand.session.assigned({number: Assignment(number, 0) for number in range(3)})
    monkeypatch.setattr(hand.engine.scheduler, "_wake", lambda: woken.append(1))
    hand.session.admission.admit(
        [Chunk(number, [Message[Any](b"x", partition=number, position=0)], 1) for number in range(3)]
    )
    assert len(hand.engine.scheduler.ready) == 3
    assert woken == [1]
    hand.pool.close()
