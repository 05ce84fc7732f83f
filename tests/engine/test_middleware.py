"""Middleware stands around the handler by its phase, and what a handler raises passes through it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from pythia_core import WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from pythia_core.contracts import Handler, Message, Middleware, Output, Phase, Surroundings, outgoing
from pythia_core.engine.engine import Engine
from pythia_core.errors import Reject, Skip
from pythia_core.settings import Settings
from pythia_core.testing import WorkerHarness
from pythia_core.worker import Worker
from tests.engine.bench import running


class Named(Middleware):
    """Writes down when it is entered and left."""

    def __init__(self, name: str, phase: Phase, calls: list[str]) -> None:
        self.name, self.phase, self.calls = name, phase, calls
        self.wrapped = 0

    def wrap(self, handler: Handler) -> Handler:
        """Wrap."""
        self.wrapped += 1

        async def named(message: Any) -> Any:
            self.calls.append(self.name)
            try:
                return await handler(message)
            finally:
                self.calls.append("/" + self.name)

        return named


async def test_middleware_stands_by_phase_and_then_as_configured() -> None:
    """Tracing outermost, the handler's own innermost, however they are listed; each wraps once."""
    calls: list[str] = []
    phases = {"h": Phase.HANDLER, "d": Phase.DEDUPE, "t1": Phase.TRACE, "l": Phase.LIMIT, "t2": Phase.TRACE}
    layers = [Named(name, phase, calls) for name, phase in phases.items()]

    async def handler(message: Message[Any]) -> None:
        calls.append("handler")

    async with running(handler, b"1", b"2", middleware=layers, max_concurrent_tasks=1) as bench:
        await bench.until_settled(2)
    once = ["t1", "t2", "l", "d", "h", "handler", "/h", "/d", "/l", "/t2", "/t1"]
    assert calls == once * 2
    assert {layer.wrapped for layer in layers} == {1}


async def test_outcomes_pass_through() -> None:
    """A middleware sees what the handler raises, and the message gets what it asked for."""
    calls: list[str] = []

    async def handler(message: Message[Any]) -> None:
        raise Skip

    async with running(handler, b"1", middleware=[Named("t", Phase.TRACE, calls)]) as bench:
        await bench.until_settled(1)
        assert calls == ["t", "/t"]
        assert bench.engine.stats.skipped == 1


async def test_a_middleware_may_answer_for_the_handler() -> None:
    """Deduplication is a middleware that does not call the handler."""

    class Dedupe(Middleware):
        phase = Phase.DEDUPE
        seen: set[bytes] = set()  # noqa: RUF012

        def wrap(self, handler: Handler) -> Handler:
            """Skip what was seen."""

            async def once(message: Message[Any]) -> Any:
                if message.raw in self.seen:
                    return None
                self.seen.add(message.raw)
                return await handler(message)

            return once

    calls: list[bytes] = []

    async def handler(message: Message[Any]) -> None:
        calls.append(message.raw)

    async with running(handler, b"1", b"1", b"2", middleware=[Dedupe()]) as bench:
        await bench.until_settled(3)
        assert sorted(calls) == [b"1", b"2"]


async def reject(message: Message[Any]) -> None:
    """Fail for good."""
    raise Reject("no")


class Sexton(Middleware):
    """Says of each dead letter what it died of."""

    def bury(self, letter: Output, message: Message[Any], error: BaseException) -> Output:
        """Add a header."""
        return letter.with_header("died-of", type(error).__name__)


async def test_middleware_has_a_word_about_dead_letters() -> None:
    """They are written as it returns them."""
    async with running(reject, b"1", middleware=[Sexton()]) as bench:
        await bench.until_settled(1)
        (letter,) = bench.dead
    assert letter.headers["died-of"] == "Reject"


async def test_a_dead_letter_is_not_lost_by_middleware(caplog: pytest.LogCaptureFixture) -> None:
    """One that raises is logged and gone over; where dead letters go is not its to say."""

    class Broken(Middleware):
        def bury(self, letter: Output, message: Message[Any], error: BaseException) -> Output:
            raise RuntimeError("no spade")

    class Thief(Middleware):
        def bury(self, letter: Output, message: Message[Any], error: BaseException) -> Output:
            return attrs.evolve(letter, sink=None)

    async with running(reject, b"1", middleware=[Broken(), Thief(), Sexton()]) as bench:
        await bench.until_settled(1)
        (letter,) = bench.dead
    assert letter.headers["died-of"] == "Reject" and str(letter.headers["pythia-error"]).endswith("Reject")
    assert "Broken.bury raised" in caplog.text and "no spade" in caplog.text


async def test_what_middleware_keeps_with_a_message_is_there_at_its_next_attempt() -> None:
    """Also if two middlewares keep something; another message has nothing of it."""
    seen: list[dict[str, Any]] = []

    async def handler(message: Message[Any]) -> None:
        seen.append(dict(message.state))
        message.state["attempts"] = message.state.get("attempts", 0) + 1
        if message.attempt == 1:
            raise ValueError

    async with running(handler, b"1", b"2", max_concurrent_tasks=1) as bench:
        await bench.until_settled(2)
    assert sorted(seen, key=len) == [{}, {}, {"attempts": 1}, {"attempts": 1}]


async def test_middleware_that_nobody_asked_for_is_not_there() -> None:
    """The handler itself is what workers call, and nobody is asked about dead letters."""

    async def handler(message: Message[Any]) -> None:
        """Do nothing."""

    def engine(*layers: Middleware) -> Engine:
        return Engine(MemoryConsumer("orders", broker=MemoryBroker()), handler, Settings(), middleware=layers)

    assert engine()._handler is handler
    assert engine()._undertakers == engine(Named("t", Phase.TRACE, []))._undertakers == []
    assert len(engine(Sexton())._undertakers) == 1


async def test_middleware_is_told_whose_handler_it_is_around_and_sees_what_it_sends() -> None:
    """Before it wraps; what handlers send goes by it as long as it says so."""
    told: list[Any] = []

    class Curious(Middleware):
        def attach(self, surroundings: Surroundings) -> None:
            told.append(surroundings)

        def wrap(self, handler: Handler) -> Handler:
            told.append("wrap")

            async def marking(message: Any) -> Any:
                mark = outgoing.set(lambda output: output.with_header("by", "me"))
                try:
                    return await handler(message)
                finally:
                    outgoing.reset(mark)

            return marking

    class Sender(Worker[Any]):
        source = MemoryConsumer("orders")
        sink = MemoryProducer("bills")

        async def process(self, message: Message[Any]) -> None:
            await self.sink.send("marked")

    sender = Sender()
    sender.config = WorkerConfig(middleware=[Curious()])
    async with WorkerHarness(sender) as harness:
        harness.send({"id": 1})
        await harness.until_done(seconds=20)
        await sender.sink.send("plain")
    assert told == [Surroundings("sender", "memory", "messages", "sender"), "wrap"]
    assert [dict(output.headers) for output in harness.outputs] == [{"by": "me"}, {}]
