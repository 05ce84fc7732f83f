"""Telemetry is told of rare events, and never harms a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Assignment, Capabilities, Message, Partition, Telemetry
from pythia_core.engine.engine import Engine
from pythia_core.engine.stats import Stats
from pythia_core.errors import BatchError, Reject, Skip
from pythia_core.settings import RetryPolicy, Settings
from tests.engine.bench import Seen, running
from tests.engine.scripted import Scripted
from tests.waiting import eventually


class Recorder(Telemetry):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def start(self, stats: Stats) -> None:
        self.events.append(("start", stats))

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self.events.append(("assigned", list(partitions)))

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:
        self.events.append(("revoked", list(partitions), lost))

    def paused(self, reason: str, paused: bool) -> None:
        self.events.append(("paused", reason, paused))

    def dead_letter(self, message: Message[Any], error: BaseException) -> None:
        self.events.append(("dead_letter", message.raw, str(error)))

    def stopped(self, reason: str) -> None:
        self.events.append(("stopped", reason))


async def handle(message: Message[Any]) -> None:
    """Reject what is bad."""
    if message.raw == b"bad":
        raise Reject("bad")


async def test_telemetry_is_told_what_happens_in_order() -> None:
    """From the start to the end of a worker."""
    telemetry = Recorder()
    async with running(handle, b"bad", telemetry=[telemetry]) as bench:
        await bench.until_settled(1)
        bench.engine.stop("scaled in")
        await bench.ended()
        assert telemetry.events == [
            ("start", bench.engine.stats),
            ("assigned", [0]),
            ("dead_letter", b"bad", "bad"),
            ("revoked", [0], False),
            ("stopped", "scaled in"),
        ]


async def test_telemetry_is_told_of_pauses_and_losses() -> None:
    """Each reason comes and goes by name."""
    gate, telemetry, broker = anyio.Event(), Recorder(), MemoryBroker()

    async def wait(message: Message[Any]) -> None:
        await gate.wait()

    async with running(wait, b"1", broker=broker, telemetry=[telemetry], messages=1) as bench:
        await bench.until(lambda: ("paused", "messages in flight", True) in telemetry.events, "it pauses")
        gate.set()
        await bench.until(lambda: ("paused", "messages in flight", False) in telemetry.events, "it resumes")
        broker.fail_next("fetch")
        await bench.until(lambda: ("revoked", [0], True) in telemetry.events, "it is lost")


EVENTS = ["start", "assigned", "revoked", "paused", "dead_letter", "stopped"]


@pytest.mark.parametrize("event", EVENTS)
async def test_telemetry_that_raises_is_dropped(event: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once; the message, and other telemetry, go their way."""

    def explode(self: Telemetry, *details: Any) -> None:
        raise RuntimeError("exporter is broken")

    broken, other = type("Broken", (Telemetry,), {event: explode})(), Recorder()
    async with running(handle, b"bad", b"good", telemetry=[broken, other], messages=1) as bench:
        await bench.until_settled(2)
        bench.engine.stop()
        await bench.ended()
    assert {name for name, *_ in other.events} == set(EVENTS)
    assert [record.message for record in caplog.records if "is dropped" in record.message] == [
        "telemetry Broken raised and is dropped"
    ]


@pytest.mark.parametrize("wanted", [True, False])
async def test_durations_are_measured_only_for_who_wants_them(wanted: bool) -> None:
    """They cost two reads of the clock for each message."""
    telemetry = Recorder()
    telemetry.durations = wanted
    async with running(Seen(), b"1", b"2", telemetry=[telemetry]) as bench:
        await bench.until_settled(2)
        assert sum(bench.engine.stats.durations) == (2 if wanted else 0)
        assert (bench.engine.stats.duration_sum > 0) is wanted


async def test_every_handler_call_is_timed_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returned, answered, failed, as the last before a pause or not: each counts once, and waiting counts for nothing.

    The clock is the test's own and moves only while a handler runs and while the worker sleeps.
    """
    now = 0.0

    async def handle(message: Message[Any]) -> object:
        nonlocal now
        kind, seconds = message.raw.split()
        now += float(seconds)
        if kind == b"raise":
            raise Skip
        return {"answer": 1} if kind == b"return" else None

    monkeypatch.setattr("pythia_core.engine.engine.loop_clock", lambda: lambda: now)
    telemetry, source = Recorder(), Scripted(Capabilities(ack="cumulative"), {0: Assignment("a", 0)})
    telemetry.durations = True
    engine = Engine(source, handle, Settings(max_concurrent_tasks=1), telemetry=[telemetry])
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        for round in range(2):
            bodies = (b"x 0", b"x 0.03125", b"raise 0.3125", b"return 0.625", b"x 0.001953125", b"x 3")
            source.deliver(*bodies, first=6 * round)
            await eventually(lambda: engine.pool.all_idle and engine.stats.finished == 6 * round + 6, "done")  # noqa: B023
            now += 100.0
        engine.force()
    # 0 and 0.002 are at most 0.005, 0.03 at most 0.05, 0.3 at most 0.5, 0.6 at most 0.75, and 3 at most 5
    assert engine.stats.durations == [4, 0, 0, 2, 0, 0, 0, 2, 2, 0, 0, 2, 0, 0, 0]
    assert engine.stats.duration_sum == 2 * (0.03125 + 0.3125 + 0.625 + 0.001953125 + 3)


async def test_positions_that_nobody_has_settled_are_counted() -> None:
    """A source says so of each assignment, the first ones and later ones."""
    source = Scripted(
        Capabilities(ack="cumulative"), {0: Assignment("a", 0), 1: Assignment("b", 5, reset=True)}
    )

    async def ignore(message: Message[Any]) -> None: ...

    engine = Engine(source, ignore, Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        assert engine.stats.counters()["resets"] == 1
        source.owner.assigned({0: Assignment("c", 9, reset=True)})
        assert engine.stats.resets == 2
        engine.stop()


async def test_a_batch_is_timed_as_one_call() -> None:
    """Its handler is called once for all of it, also if that fails."""
    telemetry = Recorder()
    telemetry.durations = True
    calls = 0

    async def handle_all(messages: Sequence[Message[Any]]) -> None:
        nonlocal calls
        calls += 1
        raise BatchError({0: Skip()})

    async with running(handle_all, b"1", b"2", b"3", telemetry=[telemetry], batch=True) as bench:
        await bench.until_settled(3)
        assert sum(bench.engine.stats.durations) == calls


async def test_a_call_that_is_cancelled_for_its_time_is_timed() -> None:
    """Its worker takes no further message, and counts it all the same."""
    telemetry = Recorder()
    telemetry.durations = True

    async def hang(message: Message[Any]) -> None:
        await anyio.sleep_forever()

    once = RetryPolicy(attempts=1)
    async with running(hang, b"1", telemetry=[telemetry], handler_timeout=0.03, retry=once) as bench:
        await bench.until(lambda: bench.dead, "it is a dead letter")
        assert sum(bench.engine.stats.durations) == 1
        assert bench.engine.stats.duration_sum >= 0.03
