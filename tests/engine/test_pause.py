"""A pool that is paused, and one message that runs alone meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pythia_core.contracts import Message
from tests.engine.bench import Bench, running


class Busy:
    """A handler, for single messages and for batches, that says what runs and waits until it may end."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.now: set[bytes] = set()
        self.most = 0
        self.gates: dict[bytes, anyio.Event] = {}

    async def __call__(self, messages: Any) -> None:
        """Run."""
        bodies = [message.raw for message in (messages if isinstance(messages, list) else [messages])]
        self.began += bodies
        self.now |= set(bodies)
        self.most = max(self.most, len(self.now))
        try:
            for body in bodies:
                await self.gates.setdefault(body, anyio.Event()).wait()
                if body.startswith(b"bad"):
                    raise ValueError(body)
        finally:
            self.now -= set(bodies)

    def end(self, *bodies: bytes) -> None:
        """Let the handler of these end."""
        for body in bodies:
            self.gates.setdefault(body, anyio.Event()).set()


@asynccontextmanager
async def paused(handler: Busy, *bodies: bytes, batch: bool, **options: Any) -> AsyncIterator[Bench]:
    """Run an engine that is paused when one message runs, which is never part of what waits."""
    async with running(handler, b"first", batch=batch, **options) as bench:
        await bench.until(lambda: handler.now, "one runs")
        bench.engine.pool.pause()
        bench.send(*bodies)
        await bench.until(lambda: len(bench.engine.scheduler.ready) == len(bodies), "the others wait")
        yield bench


def ready(bench: Bench, body: bytes) -> Message[Any]:
    """Return the message that waits with this body."""
    return next(message for message in bench.engine.scheduler.ready if message.raw == body)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_pause_ends_when_it_was_resumed_as_often(batch: bool) -> None:
    """What runs ends; nothing else begins before each of those who paused has resumed."""
    handler = Busy()
    async with paused(handler, b"1", b"2", batch=batch) as bench:
        bench.engine.pool.pause()
        handler.end(b"first", b"1", b"2")
        await bench.until_settled(1)
        bench.engine.pool.resume()
        await anyio.wait_all_tasks_blocked()
        assert handler.began == [b"first"]
        bench.engine.pool.resume()
        await bench.until_settled(3)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_message_runs_alone(batch: bool) -> None:
    """It waits for what runs, and is seen as running like any other; the next one waits for it."""
    handler = Busy()
    async with paused(handler, b"1", b"2", b"3", batch=batch) as bench:
        engine = bench.engine
        async with anyio.create_task_group() as group:
            group.start_soon(engine.pool.run_alone, ready(bench, b"2"))
            await anyio.wait_all_tasks_blocked()
            assert handler.now == {b"first"}
            handler.end(b"first")
            await bench.until(lambda: handler.now == {b"2"}, "it runs alone")
            (started,) = engine.work.started([ready(bench, b"1")._ledger])
            assert started.raw == b"2"
            group.start_soon(engine.pool.run_alone, ready(bench, b"3"))
            await anyio.wait_all_tasks_blocked()
            handler.end(b"2")
            await bench.until(lambda: handler.now == {b"3"}, "the next one runs")
            handler.end(b"3")
        await bench.until_settled(3)
        assert handler.most == 1
        engine.pool.resume()
        handler.end(b"1")
        await bench.until_settled(4)


@pytest.mark.parametrize("batch", [False, True])
async def test_what_fails_alone_fails_like_any_other(batch: bool) -> None:
    """It is parked, tried again and dead-lettered, and no worker is lost or won by its timeout."""
    handler = Busy()
    async with paused(handler, b"slow", b"bad", batch=batch, handler_timeout=0.1) as bench:
        pool = bench.engine.pool
        slow, bad = ready(bench, b"slow"), ready(bench, b"bad")
        await bench.until(lambda: not handler.now, "the first was overdue")
        handler.end(b"bad", b"first")
        assert await pool.run_alone(slow)
        assert slow.attempt == 2
        assert await pool.run_alone(bad)
        assert bad.attempt == 2
        await bench.until(lambda: len(pool.slots) == pool.size, "there are as many workers as before")
        assert not pool.running
        handler.end(b"slow")
        pool.resume()
        await bench.until_settled(3)
        assert [letter.value for letter in bench.dead] == [b"bad"]


@pytest.mark.parametrize("batch", [False, True])
async def test_a_handler_that_ignores_its_cancellation_is_not_waited_for(batch: bool) -> None:
    """It may never end; else the brake and suspects would be held up for ever."""
    gate, began = anyio.Event(), list[bytes]()

    async def handler(messages: Any) -> None:
        message = messages[0] if isinstance(messages, list) else messages
        began.append(message.raw)
        if message.raw == b"first":
            with anyio.CancelScope(shield=True):
                await gate.wait()

    async with running(handler, b"first", batch=batch, handler_timeout=0.1) as bench:
        await bench.until(lambda: began, "one runs")
        pool = bench.engine.pool
        pool.pause()
        bench.send(b"1")
        await bench.until(lambda: bench.engine.scheduler.ready, "the other waits")
        await bench.until(lambda: not pool.at_work, "the first was cancelled")
        with anyio.fail_after(5):
            assert await pool.run_alone(ready(bench, b"1"))
        assert pool.running
        assert not bench.engine.work.anything_at_work()
        gate.set()
        pool.resume()


async def test_what_is_gone_is_not_run_alone() -> None:
    """Its partition may be lost while it waits for the others to end."""
    handler = Busy()
    async with paused(handler, b"1", batch=False) as bench:
        outcome: list[bool] = []

        async def run(message: Message[Any]) -> None:
            outcome.append(await bench.engine.pool.run_alone(message))

        async with anyio.create_task_group() as group:
            group.start_soon(run, ready(bench, b"1"))
            await anyio.wait_all_tasks_blocked()
            session = bench.engine._session
            assert session is not None
            session.lost(list(session.ledgers))
            handler.end(b"first")
        assert outcome == [False]
        assert handler.began == [b"first"]


@pytest.mark.parametrize("end", ["fails", "returns a value", "is done"])
async def test_a_pause_takes_hold_at_once_though_messages_were_quick(end: str) -> None:
    """A worker in the middle of its stride takes no further message, since that one may take its time."""
    began: list[bytes] = []

    async def handler(message: Message[Any]) -> bytes | None:
        began.append(message.raw)
        if message.raw == b"bad":
            bench.engine.pool.pause()
            if end == "fails":
                raise ValueError
            return b"value" if end == "returns a value" else None
        return None

    bodies = [*[b"good"] * 20, b"bad", *[b"later"] * 20]
    async with running(handler, max_concurrent_tasks=1) as bench:
        bench.send(*bodies)
        await bench.until(lambda: b"bad" in began, "one failed")
        await anyio.wait_all_tasks_blocked()
        assert began == bodies[:21]
