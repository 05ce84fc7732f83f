"""The memory gate, with a measure that the test decides, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
import trio
import trio.testing

from pythia_core.contracts import Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.health import Exit
from pythia_core.engine.memory import MIB, MemoryGate
from pythia_core.engine.stops import Stops
from pythia_core.errors import Retry
from pythia_core.settings import Settings
from tests.engine.bench import Seen
from tests.engine.scripted import Scripted


@attrs.define(eq=False)
class Memory:
    """What the process has, in MiB, and what was asked for."""

    used: float = 10.0
    asked: list[tuple[str, Exit]] = attrs.field(factory=list)

    def measure(self) -> int:
        return int(self.used * MIB)

    def give_up(self, why: str, code: Exit) -> None:
        self.asked.append((why, code))


@asynccontextmanager
async def running(
    source: Scripted, memory: Memory, script: Any = None, *, owned: bool = True, **settings: Any
) -> AsyncIterator[Engine]:
    """Run an engine with a bound of 100 MiB."""
    engine = Engine(
        source,
        Seen(script),
        Settings(**{"max_memory_mb": 100, "drain_timeout": 1.0, **settings}),
        give_up=memory.give_up if owned else None,
        memory=memory.measure,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await trio.sleep(1)
        yield engine
        engine.force()


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which a minute takes no time."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.001))


def test_intake_stops_and_resumes_below_the_threshold() -> None:
    """G1: with the reason in health, ready all the while, and nothing is asked for."""

    async def busy(message: Message[Any]) -> None:
        await trio.sleep(3600)

    async def main() -> None:
        source, memory = Scripted(), Memory()
        async with running(source, memory, busy) as engine:
            source.deliver(b"1")
            memory.used = 99.5
            await trio.sleep(1)
            assert engine.health().reasons == ("intake stopped: memory",)
            assert engine.health().ready
            assert source.rooms[-1] == {}
            memory.used = 70
            await trio.sleep(1)
            assert engine.health().reasons == ()
            await trio.sleep(1)
            assert source.rooms[-1] != {}
            assert memory.asked == []

    in_virtual_time(main)


def test_the_process_is_replaced_once_nothing_is_at_work() -> None:
    """G2: not while something runs, though what is parked does not keep it; asked once."""

    async def busy(message: Message[Any]) -> None:
        if message.raw == b"parks":
            raise Retry(3600)
        await trio.sleep(30)

    async def main() -> None:
        source, memory = Scripted(), Memory()
        async with running(source, memory, busy) as engine:
            source.deliver(b"parks", b"runs")
            memory.used = 99.5
            await trio.sleep(20)
            assert memory.asked == []
            await trio.sleep(20)
            ((why, code),) = memory.asked
            assert code == Exit.RECYCLE
            assert why == "100 MiB of max_memory_mb=100 are used with nothing at work"
            assert engine.health().live
            engine.stop(why, code)

    in_virtual_time(main)


def test_where_the_process_is_not_ours_it_is_reported() -> None:
    """A loop of the user's own is not ended; health says that a restart would help."""

    async def main() -> None:
        source, memory = Scripted(), Memory(used=99.5)
        async with running(source, memory, owned=False) as engine:
            await trio.sleep(1)
            assert not engine.health().live
            assert "max_memory_mb=100" in engine.health().reasons[0]

    in_virtual_time(main)


def test_without_a_bound_nothing_is_measured() -> None:
    """It costs nothing."""

    async def main() -> None:
        memory = Memory(used=1e9)
        async with running(Scripted(), memory, max_memory_mb=None) as engine:
            await trio.sleep(1)
            assert (memory.asked, engine.health().reasons) == ([], ())

    in_virtual_time(main)


@pytest.mark.parametrize(("random", "threshold"), [(0.0, 81.0), (0.5, 90.0), (1.0, 99.0)])
def test_thresholds_differ(random: float, threshold: float) -> None:
    """G3, G1: 90 % of the bound, give or take a tenth; 90 % of that to resume."""
    memory = Memory()
    stops = Stops(changed=lambda reason, stopped: None, resumed=lambda: None)
    gate = MemoryGate(
        100, memory.measure, stops, idle=lambda: False, exhausted=lambda why: None, random=lambda: random
    )
    for used, stopped in [
        (threshold - 0.1, False),
        (threshold + 0.1, True),
        (threshold * 0.9 + 0.1, True),
        (threshold * 0.9 - 0.1, False),
        (threshold - 0.1, False),
    ]:
        memory.used = used
        gate.look()
        assert ("memory" in stops) is stopped
