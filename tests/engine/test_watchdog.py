"""A client that has gone deaf is noticed, and nothing else is mistaken for one. All in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import trio
import trio.testing

from pythia_core.contracts import Assignment, Backlog, Capabilities, Inspector, Message
from pythia_core.engine.engine import Engine
from pythia_core.errors import Reject, Retry
from pythia_core.settings import Limits, Settings
from tests.engine.bench import Seen
from tests.engine.scripted import Scripted

DEAF = Backlog(waiting=7)


@attrs.define(eq=False)
class Deaf(Scripted, Inspector):
    """A source that brings nothing by itself, and says what it is told of its backlog."""

    answer: Callable[[], Coroutine[Any, Any, Backlog]] | Backlog = DEAF
    asked: list[float] = attrs.field(factory=list)
    subscriptions: int = 0

    async def subscribe(self, owner: Any) -> Any:
        self.subscriptions += 1
        return await super().subscribe(owner)

    def inspect(self) -> Inspector:
        return self

    async def backlog(self) -> Backlog:
        self.asked.append(trio.current_time())
        return self.answer if isinstance(self.answer, Backlog) else await self.answer()


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which an hour takes no time."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.001))


@asynccontextmanager
async def running(source: Deaf, script: Any = None, **settings: Any) -> AsyncIterator[Engine]:
    """Run an engine on a source."""
    engine = Engine(source, Seen(script), Settings(drain_timeout=1.0, **settings))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await trio.sleep(1)
        yield engine
        engine.force()


def test_a_deaf_client_is_replaced() -> None:
    """W1, W2: not asked for a minute, not acted on at the first look, then subscribed anew, and it works again."""

    async def main() -> None:
        source = Deaf()
        began = trio.current_time()
        async with running(source) as engine:
            await trio.sleep(58)
            assert source.asked == []
            await trio.sleep(16)
            assert (len(source.asked), source.subscriptions) == (1, 1)
            await trio.sleep(15)
            assert (len(source.asked), source.subscriptions) == (2, 2)
            assert all(moment - began >= 60 for moment in source.asked)
            source.deliver(b"1")
            await trio.sleep(5)
            assert engine.stats.finished == 1
            assert engine.health().ready

    in_virtual_time(main)


def test_only_our_own_partitions_count() -> None:
    """W2: what waits for others is no reason; what waits for us is."""

    async def main() -> None:
        theirs = Backlog(waiting=9, by_partition={0: Backlog(waiting=0), 1: Backlog(waiting=9)})
        async with running(Deaf(answer=theirs)) as engine:
            await trio.sleep(100)
            assert engine.stats.subscriptions == 1
        ours = Backlog(waiting=9, by_partition={0: Backlog(waiting=9)})
        async with running(Deaf(answer=ours)) as engine:
            await trio.sleep(100)
            assert engine.stats.subscriptions == 2

    in_virtual_time(main)


def test_no_false_alarm() -> None:
    """W2, W3: an idle topic, an unknown backlog, a broker that is down or does not answer; each asked once a minute."""

    async def down() -> Backlog:
        raise OSError("connection refused")

    async def dumb() -> Backlog:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        for answer in (Backlog(waiting=0), Backlog(), down, dumb):
            source = Deaf(answer=answer)
            async with running(source):
                await trio.sleep(250)
                assert source.subscriptions == 1
                assert 2 <= len(source.asked) <= 4

    in_virtual_time(main)


def test_two_looks_with_a_message_between_them_are_none() -> None:
    """W2: whoever brings something is not deaf."""

    async def main() -> None:
        source = Deaf()
        async with running(source):
            await trio.sleep(4)
            for number in range(4):
                await trio.sleep(70)
                assert len(source.asked) == number + 1  # the next look would be 5 s later
                source.deliver(b"x", first=number)
            await trio.sleep(9)
            assert source.subscriptions == 1

    in_virtual_time(main)


def test_silence_with_a_reason_is_not_looked_at() -> None:
    """W1: while something runs, is parked or is held, or intake is stopped, the broker is not even asked."""

    async def run(message: Message[Any]) -> None:
        if message.raw == b"runs":
            await trio.sleep(3600)
        if message.raw == b"parks":
            raise Retry(3600)
        if message.raw == b"held":
            raise Reject

    async def main() -> None:
        for body in (b"runs", b"parks", b"held"):
            source = Deaf(Capabilities(ack="cumulative"), {n: Assignment(n, 0) for n in (0, 1)})
            async with running(source, run, limits=Limits(messages=10)):
                source.deliver(body)
                await trio.sleep(90)
                assert (source.asked, source.subscriptions) == ([], 1)
        source = Deaf()
        async with running(source) as engine:
            engine.stops.add("a test")
            await trio.sleep(90)
            assert source.asked == []
            engine.stops.discard("a test")
            source.owner.lost([0])
            await trio.sleep(90)
            assert source.asked == []

    in_virtual_time(main)
