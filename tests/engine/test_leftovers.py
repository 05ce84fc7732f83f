"""Handlers that go on though they were cancelled: fenced, named, and in the end a reason to end the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.contracts import Assignment, Capabilities, Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.health import Exit
from pythia_core.settings import Settings
from tests.engine.bench import Seen
from tests.engine.scripted import Scripted

Deaths = list[tuple[str, Exit]]


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which a minute takes no time."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.001))


@asynccontextmanager
async def stubborn(
    give_up: Callable[[str, Exit], None] | None, **settings: Any
) -> AsyncIterator[tuple[Engine, Scripted, trio.Event]]:
    """Run an engine whose handler ignores its cancellation until an event, on one message that has been started."""
    end = trio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"stubborn":
            with anyio.CancelScope(shield=True):
                await end.wait()

    source = Scripted(Capabilities(ack="cumulative", order_scope="partition"), {0: Assignment("a", 0)})
    engine = Engine(source, Seen(handler), Settings(**settings), give_up=give_up)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await trio.sleep(1)
        source.deliver(b"stubborn", keys=["k"])
        await trio.sleep(1)
        try:
            yield engine, source, end
        finally:
            end.set()
            engine.force()


def test_a_revoked_handler_that_does_not_end_ends_the_process() -> None:
    """E4: not before drain_timeout has passed a second time, once, and with the watchdog's code."""

    async def main() -> None:
        deaths: Deaths = []
        async with stubborn(lambda why, code: deaths.append((why, code)), drain_timeout=20.0) as (
            engine,
            source,
            _,
        ):
            await source.owner.revoked([0], trio.current_time() + 10)
            await trio.sleep(19)
            assert (deaths, engine.health().live) == ([], True)
            await trio.sleep(30)
            ((why, code),) = deaths
            assert code == Exit.WATCHDOG
            assert "Message" in why and "revoked" in why
            assert why in engine.health().reasons

    in_virtual_time(main)


def test_where_the_process_is_not_ours_it_is_only_reported(caplog: pytest.LogCaptureFixture) -> None:
    """E4: not live while it lasts, said once in the log, and the rest of the work goes on."""

    async def main() -> None:
        async with stubborn(None, drain_timeout=20.0) as (engine, source, end):
            await source.owner.revoked([0], trio.current_time() + 10)
            source.owner.assigned({0: Assignment("b", 0)})
            await trio.sleep(30)
            assert not engine.health().live
            assert sum("the process should end" in record.message for record in caplog.records) == 1
            source.deliver(b"other", first=1, keys=["l"])
            await trio.sleep(5)
            assert source.settlements[-1].through == 2
            end.set()
            await trio.sleep(1)
            assert engine.health().live and engine.health().ready

    in_virtual_time(main)


def test_a_handler_that_ignores_its_timeout_is_named_and_its_place_taken() -> None:
    """At once, with the seconds since it was cancelled; the process goes on."""

    async def main() -> None:
        deaths: Deaths = []
        options: dict[str, Any] = {"handler_timeout": 5.0, "drain_timeout": 2.0, "max_concurrent_tasks": 1}
        async with stubborn(lambda why, code: deaths.append((why, code)), **options) as (engine, source, end):
            await trio.sleep(14)
            (stuck,) = engine.health().stuck
            assert (stuck.state, round(stuck.seconds)) == ("cancelled", 10)
            assert "cancelled and not ended" in str(stuck)
            source.deliver(b"other", first=1, keys=["l"])
            await trio.sleep(1)
            assert engine.stats.finished == 1
            assert deaths == []
            end.set()
            await trio.sleep(1)
            assert (engine.stats.finished, engine.health().stuck) == (2, ())

    in_virtual_time(main)


def test_a_stop_has_the_code_of_who_asked_first() -> None:
    """What run returns is what the process exits with."""

    async def main() -> None:
        engine = Engine(Scripted(), Seen(), Settings())
        exits: list[Exit] = []

        async def run() -> None:
            exits.append(await engine.run())

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await trio.sleep(1)
            engine.stop("it is large", Exit.RECYCLE)
            engine.stop("it is asked to")
        assert exits == [Exit.RECYCLE]

    in_virtual_time(main)
