"""Handlers that run too long."""

from __future__ import annotations

from typing import Any

import anyio

from pythia_core.contracts import Message
from pythia_core.errors import Retry
from pythia_core.settings import RetryPolicy
from tests.engine.bench import QUICK, Seen, running


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


async def test_an_attempt_has_all_the_time_of_its_own() -> None:
    """A message that was parked for longer than the timeout is not overdue when it runs again on the same worker."""
    overdue: list[int] = []

    async def handler(message: Message[Any]) -> None:
        try:
            await anyio.sleep(0.3)
        except anyio.get_cancelled_exc_class():
            overdue.append(message.attempt)
            raise
        if message.attempt < 3:
            raise Retry(0.6)

    options: dict[str, Any] = {"handler_timeout": 0.7, "max_concurrent_tasks": 1}
    async with running(handler, b"1", retry=QUICK, **options) as bench:
        await bench.until_settled(1)
        assert (overdue, bench.dead) == ([], [])


async def test_without_a_timeout_a_handler_may_run_for_ever() -> None:
    """Long work is a use, not an error."""
    gate = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        await gate.wait()

    async with running(handler, b"1", retry=RetryPolicy(attempts=1)) as bench:
        await bench.until(lambda: bench.engine.stats.in_flight, "it runs")
        await anyio.sleep(0.6)  # two sweeps
        gate.set()
        await bench.until_settled(1)
        assert bench.dead == []
