"""Runs one worker on a broker in memory, as it is, so that a test can say what comes in and look at what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self

import anyio
import attrs
import orjson

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer, Record
from pythia_core.config import UNSET
from pythia_core.contracts import HeaderInput, Headers
from pythia_core.runtime import Runtime
from pythia_core.worker import NoSink, NoSource, Worker

__all__ = ["Letter", "WorkerHarness", "in_virtual_time"]

Arguments = ParamSpec("Arguments")

MESSAGES, OUTPUTS = "messages", "outputs"
LOOK, SHARE, LONGEST = 0.01, 0.1, 5.0
"""Seconds between two looks: a tenth of what was waited already, so that hours of virtual time take few of them."""

STOP_SECONDS = 5.0


@attrs.frozen
class Letter:
    """A message that the worker wrote, or that became a dead letter.

    Args:
        raw: its bytes.
        key: what ordering goes by.
        headers: of it; a dead letter's say where it came from and why it is dead.
        delay: seconds for which the broker is to hold it back.
    """

    raw: bytes
    key: Any
    headers: Headers
    delay: float = 0.0

    @property
    def body(self) -> Any:
        """The value that its JSON says."""
        return orjson.loads(self.raw)


class WorkerHarness:
    """Run a worker on a broker in memory for the length of a block.

    Its source is replaced, and its sink if it has one; settings, middleware, retries, ``startup`` and ``shutdown`` are its
    own, and the environment is left out. Other attributes that hold connections are opened as they are, so a test
    replaces them first.

    Args:
        worker: an instance of the test's own.
        environ: what is to be seen of the environment.

    Example:
        ::

            async def test_an_order_is_billed():
                async with WorkerHarness(OrderProcessor()) as harness:
                    harness.send({"id": 1, "amount": 5}, key="customer-1")
                    await harness.until_done()
                assert [letter.body for letter in harness.outputs] == [{"bill": 5}]
                assert not harness.dead_letters
    """

    def __init__(self, worker: Worker[Any], *, environ: dict[str, str] | None = None) -> None:
        self.broker = MemoryBroker()
        self.worker = worker
        scope = None if isinstance(worker.source, NoSource) else worker.source.capabilities.order_scope
        worker.source = MemoryConsumer(MESSAGES, broker=self.broker, order_scope=scope)
        if not isinstance(worker.sink, NoSink):
            worker.sink = MemoryProducer(OUTPUTS, broker=self.broker, delays=worker.sink.delays)
        self._runtime = Runtime(worker, environ=environ or {})
        self._runtime.resolved = attrs.evolve(self._runtime.resolved, dead_letter=UNSET)
        self._stack = AsyncExitStack()
        self._sent = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self._runtime.run)
            await self._until(lambda: self._runtime.health().ready, "the worker is ready", STOP_SECONDS)
            yield
            self._runtime.stop("the test has ended")

    def send(self, body: Any, *, key: str | bytes | None = None, headers: HeaderInput | None = None) -> None:
        """Let a message come in; bytes are its body as they are, anything else is written as JSON."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        self.broker.publish(MESSAGES, raw, key=key, headers=headers)
        self._sent += 1

    async def until_done(self, *, seconds: float = 600.0) -> None:
        """Wait until each message that was sent is settled: done, skipped, or a dead letter.

        Args:
            seconds: how long at most; in virtual time the wait costs nothing.

        Raises:
            TimeoutError: if some are not, saying how many.
        """
        what = f"{self._sent} messages are settled"
        await self._until(lambda: self.settled == self._sent, what, seconds)

    @property
    def settled(self) -> int:
        """How many messages will never come again."""
        return len(self.broker.settled(MESSAGES, self._runtime.source.group or ""))

    @property
    def outputs(self) -> list[Letter]:
        """What was written to the worker's sink, in its order; behind it what is still held back for its delay."""
        return list(map(_letter, (*self.broker.records(OUTPUTS), *self.broker.held(OUTPUTS))))

    @property
    def dead_letters(self) -> list[Letter]:
        """What could not be processed, in its order."""
        return list(map(_letter, self.broker.dead_letters(MESSAGES)))

    async def _until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        began = anyio.current_time()
        while not condition():
            waited = anyio.current_time() - began
            if waited > seconds:
                reasons = "; ".join(self._runtime.health().reasons) or "no reason is known"
                raise TimeoutError(
                    f"waited {seconds:g} s in vain until {what}; {self.settled} are, and: {reasons}"
                )
            await anyio.sleep(max(LOOK, min(LONGEST, waited * SHARE)))


def _letter(record: Record) -> Letter:
    return Letter(record.value, record.key, record.headers, record.delay)


def in_virtual_time(test: Callable[Arguments, Awaitable[None]]) -> Callable[Arguments, None]:
    """Return a test that runs on trio with a clock that jumps over every wait: an hour of retries takes no time.

    Raises:
        ImportError: if trio is not installed.
    """
    import trio
    import trio.testing

    @wraps(test)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> None:
        async def main() -> None:
            await test(*arguments, **named)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run
