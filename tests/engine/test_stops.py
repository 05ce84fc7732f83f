"""Reasons that stop intake for the whole engine, and the exit code of a stop."""

from __future__ import annotations

import anyio
import pytest

from pythia_core.contracts import Telemetry
from pythia_core.engine.health import Exit
from tests.engine.bench import Seen, running


class Listener(Telemetry):
    """Writes down why intake was stopped, and when a reason was gone."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool]] = []

    def paused(self, reason: str, paused: bool) -> None:
        """Write it down."""
        self.heard.append((reason, paused))


async def test_nothing_is_fetched_while_there_is_a_reason() -> None:
    """N3: the reason is named in health and told to telemetry; the backlog stays in the broker until all are gone."""
    listener, seen = Listener(), Seen()
    async with running(seen, telemetry=[listener]) as bench:
        stops = bench.engine.stops
        stops.add("memory")
        stops.add("brake")
        await bench.until(lambda: bench.engine.health().ready, "it is subscribed")
        assert bench.engine.health().reasons == ("intake stopped: memory", "intake stopped: brake")
        bench.send(b"1", b"2")
        stops.discard("memory")
        stops.discard("memory")
        await anyio.wait_all_tasks_blocked()
        assert bench.engine.stats.received == 0
        stops.discard("brake")
        await bench.until_settled(2)
        assert bench.engine.health().reasons == ()
    assert listener.heard == [("memory", True), ("brake", True), ("memory", False), ("brake", False)]


async def test_a_reason_may_allow_a_few_and_the_strictest_counts() -> None:
    """N3: each is asked before a fetch; one that is added again changes nothing, and telemetry does not hear of it twice."""
    listener, gate = Listener(), anyio.Event()

    async def handler(message: object) -> None:
        await gate.wait()

    async with running(handler, telemetry=[listener], messages=2) as bench:
        stops = bench.engine.stops
        strict: list[int] = []
        stops.add("one at a time", lambda: 1)
        stops.add("strict", lambda: len(strict))
        stops.add("strict", lambda: 1)
        bench.send(*[b"x"] * 5)
        await bench.until(lambda: bench.engine.health().ready, "it is subscribed")
        await anyio.wait_all_tasks_blocked()
        assert bench.engine.stats.received == 0
        strict += [1, 2]
        await bench.until(lambda: bench.engine.stats.received == 2, "two fetches of one have come")
        gate.set()
        await bench.until_settled(5)
    assert ("strict", False) not in listener.heard
    assert listener.heard.count(("strict", True)) == 1


async def test_reasons_outlive_a_subscription() -> None:
    """N3: the next one is stopped by them as well."""
    async with running(Seen()) as bench:
        await bench.until(lambda: bench.engine.health().ready, "it is subscribed")
        bench.engine.stops.add("memory")
        bench.broker.fail_next("fetch")
        await bench.until(lambda: bench.engine.stats.subscriptions == 2, "it has subscribed anew")
        bench.send(b"1")
        await anyio.wait_all_tasks_blocked()
        assert "intake stopped: memory" in bench.engine.health().reasons
        assert bench.engine.stats.received == 0


@pytest.mark.parametrize("early", [True, False])
async def test_a_stop_says_what_to_exit_with(early: bool) -> None:
    """The first stop decides, also one that comes before the engine runs; what was at work is settled first."""
    async with running(Seen(), b"1") as bench:
        if not early:
            await bench.until_settled(1)
        bench.engine.stop("memory", Exit.RECYCLE)
        bench.engine.stop("again", Exit.WATCHDOG)
        assert await bench.ended() is Exit.RECYCLE
