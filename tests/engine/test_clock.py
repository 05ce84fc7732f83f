"""The engine goes by a monotonic clock: a wall clock that is set, or jumps, is nothing to it."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Message
from pythia_core.errors import Retry
from tests.engine.bench import running

HOURS = 7200.0  # seconds


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours to and fro at every look: retries come in their time, nothing is overdue, no lease runs out."""
    jumps = itertools.cycle([HOURS, -HOURS, 0.0])
    present = time.time()
    monkeypatch.setattr(time, "time", lambda: present + next(jumps))
    began: dict[bytes, list[float]] = {}

    async def handler(message: Message[Any]) -> None:
        began.setdefault(message.raw, []).append(trio.current_time())
        if message.raw == b"retry" and message.attempt < 3:
            raise Retry(10)
        if message.raw == b"slow":
            await trio.sleep(20)

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        bodies = (b"retry", b"slow", b"quick")
        options: dict[str, Any] = {"lease_seconds": 6.0, "handler_timeout": 25.0, "max_hold": 60.0}
        async with running(handler, *bodies, broker=broker, **options) as bench:
            await trio.sleep(60)
            assert sorted(bench.settled) == sorted(bodies) and bench.dead == []

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    gaps = [later - earlier for earlier, later in itertools.pairwise(began[b"retry"])]
    assert gaps == pytest.approx([10, 10], abs=0.1)
    assert (len(began[b"slow"]), len(began[b"quick"])) == (1, 1)
