"""Telemetry is told of rare events, and never harms a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Message, Partition, Telemetry
from pythia_core.engine.stats import Stats
from pythia_core.errors import Reject
from tests.engine.bench import Seen, running


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
