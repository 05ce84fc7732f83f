"""Middleware stands around the handler by its phase, and what a handler raises passes through it."""

from __future__ import annotations

from typing import Any

from pythia_core.contracts import Handler, Message, Middleware, Phase
from pythia_core.errors import Skip
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
