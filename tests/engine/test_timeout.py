"""Handlers that run too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Message
from pythia_core.errors import Retry
from pythia_core.settings import RetryPolicy
from tests.engine.bench import QUICK, Bench, Seen, running


async def test_a_handler_that_runs_too_long_is_cancelled_and_its_worker_replaced() -> None:
    """With one worker the other messages run all the same; the slow one fails as often as the policy allows."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"slow":
            await anyio.sleep_forever()

    seen = Seen(handler)
    options: dict[str, Any] = {"handler_timeout": 0.1, "max_concurrent_tasks": 1}
    async with running(seen, b"slow", b"1", b"2", **options) as bench:
        await bench.until_settled(3)
        assert seen.count(b"slow") == 3
        (letter,) = bench.dead
        assert letter.headers["pythia-error"] == "pythia_core.engine.outcomes.HandlerTimeout"
        assert "0.1 s" in str(letter.headers["pythia-error-message"])
        assert len(bench.engine.pool.slots) == 1


async def test_the_key_of_an_overdue_handler_stays_closed_until_it_has_ended() -> None:
    """A handler that ignores its cancellation keeps its key, and nothing but its key."""
    end = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"a1" and message.attempt == 1:
            with anyio.CancelScope(shield=True):
                await end.wait()
            raise ValueError

    seen = Seen(handler)
    options: dict[str, Any] = {"handler_timeout": 0.05, "max_concurrent_tasks": 1, "order": "key"}
    async with running(seen, b"a1", b"a2", b"b1", keys=["a", "a", "b"], **options) as bench:
        await bench.until(lambda: b"b1" in seen, "another key runs")
        await anyio.wait_all_tasks_blocked()
        assert b"a2" not in seen
        end.set()
        await bench.until_settled(3)
        assert [raw for raw in seen if raw.startswith(b"a")] == [b"a1", b"a1", b"a2"]


async def test_a_handler_that_ends_well_though_cancelled_is_done() -> None:
    """What it says counts."""

    async def handler(message: Message[Any]) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(0.3):
            await anyio.sleep_forever()

    seen = Seen(handler)
    async with running(seen, b"1", b"2", handler_timeout=0.05, max_concurrent_tasks=1) as bench:
        await bench.until_settled(2)
        assert (sorted(seen), bench.dead) == ([b"1", b"2"], [])


def in_virtual_time(handler: Callable[[Message[Any]], Awaitable[None]], **options: Any) -> Bench:
    """Run one message to its settlement, however many virtual seconds that takes."""
    done = trio.Event()

    async def last(message: Message[Any]) -> None:
        await handler(message)
        done.set()

    async def main() -> Bench:
        broker = MemoryBroker(clock=trio.current_time)
        async with running(last, b"1", broker=broker, **options) as bench:
            await done.wait()
            await bench.until_settled(1)
            return bench

    bench: Bench = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
    return bench


def test_an_attempt_has_all_the_time_of_its_own() -> None:
    """A message that was parked for longer than the timeout is not overdue when it runs again on the same worker."""
    overdue: list[int] = []

    async def handler(message: Message[Any]) -> None:
        try:
            await trio.sleep(3)
        except trio.Cancelled:
            overdue.append(message.attempt)
            raise
        if message.attempt < 3:
            raise Retry(6)

    bench = in_virtual_time(handler, handler_timeout=7.0, max_concurrent_tasks=1, retry=QUICK)
    assert (overdue, bench.dead) == ([], [])


def test_without_a_timeout_a_handler_may_run_for_as_long_as_it_likes() -> None:
    """Long work is a use, not an error."""

    async def handler(message: Message[Any]) -> None:
        await trio.sleep(90)

    bench = in_virtual_time(handler, retry=RetryPolicy(attempts=1))
    assert bench.dead == []
