"""An engine at work on the broker in memory, for the length of a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer, Record
from pythia_core.contracts import Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.health import Exit
from pythia_core.settings import Limits, RetryPolicy, Settings
from tests.waiting import PATIENCE, eventually

QUICK = RetryPolicy(attempts=3, base=0.0, cap=0.0)
INTERVAL = 0.037  # seconds; no divisor of 0.1, at which wait_all_tasks_blocked looks on asyncio and would meet it each time
DEFAULT = object()
SETTINGS = {field.name for field in attrs.fields(Settings)}
ENGINE = {"sink", "dead_letter", "middleware", "telemetry", "codec", "batch"}


@attrs.define(eq=False)
class Bench:
    """An engine, its broker, and what tests ask of the two."""

    broker: MemoryBroker
    engine: Engine
    exits: list[Exit] = attrs.field(factory=list)
    errors: list[BaseException] = attrs.field(factory=list)

    def send(self, *values: bytes, topic: str = "orders", **options: Any) -> None:
        """Publish messages."""
        for value in values:
            self.broker.publish(topic, value, **options)

    @property
    def settled(self) -> list[bytes]:
        """The bodies of what will never be delivered again."""
        subscribed = self.broker.topic("orders").groups
        return [record.value for record in self.broker.settled("orders")] if subscribed else []

    @property
    def dead(self) -> list[Record]:
        """The dead letters."""
        return self.broker.dead_letters("orders")

    @property
    def writing(self) -> bool:
        """True while an output or a dead letter is on its way."""
        return hasattr(self.engine, "publisher") and bool(self.engine.publisher.jobs)

    @property
    def held(self) -> bool:
        """True once a message has stopped its partition."""
        return hasattr(self.engine, "disposition") and bool(self.engine.disposition.held)

    @property
    def parked(self) -> int:
        """How many messages are parked."""
        return len(self.engine.parking) if hasattr(self.engine, "parking") else 0

    async def until(self, condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
        """Wait for a condition."""
        await eventually(condition, what, seconds=seconds)

    async def until_settled(self, count: int) -> None:
        """Wait until so many messages are settled."""
        await self.until(lambda: len(self.settled) == count, f"{count} messages are settled")

    async def ended(self, *, seconds: float = PATIENCE) -> Exit:
        """Wait until ``run`` has returned, and return the exit code."""
        await self.until(lambda: self.exits, "the engine has ended", seconds=seconds)
        return self.exits[0]


def make(
    broker: MemoryBroker,
    handler: Callable[[Any], Awaitable[object]],
    *,
    dead_letter: Any = DEFAULT,
    **options: Any,
) -> Engine:
    """Return an engine; options go to its settings, to itself, or to its source, whichever knows them."""
    settings = {name: options.pop(name) for name in list(options) if name in SETTINGS}
    limits = {
        name: options.pop(name)
        for name in list(options)
        if name in ("messages", "bytes", "message_bytes", "span")
    }
    engine = {name: options.pop(name) for name in list(options) if name in ENGINE}
    source = MemoryConsumer("orders", broker=broker, **options)
    return Engine(
        source,
        handler,
        Settings(**{"retry": QUICK, "batch_timeout": INTERVAL, "limits": Limits(**limits), **settings}),
        dead_letter=dead_letter,
        name="tests",
        **engine,
    )


@asynccontextmanager
async def running(
    handler: Callable[[Any], Awaitable[object]],
    *values: bytes,
    broker: MemoryBroker | None = None,
    keys: Sequence[str | None] | None = None,
    dead_letter: Any = DEFAULT,
    **options: Any,
) -> AsyncIterator[Bench]:
    """Run an engine on messages with these bodies and keys; at the end of the block it is forced to stop."""
    broker = broker or MemoryBroker()
    for value, key in zip(values, keys or [None] * len(values), strict=True):
        broker.publish("orders", value, key=key)
    async with MemoryProducer("orders.dlq", broker=broker) as letters:
        engine = make(
            broker, handler, dead_letter=letters if dead_letter is DEFAULT else dead_letter, **options
        )
        bench = Bench(broker, engine)

        async def run() -> None:
            bench.exits.append(await engine.run())

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            yield bench
            engine.force()
            await bench.ended()


class Seen(list[bytes]):
    """A handler that writes down the bodies it is called with, and does what ``script`` says for each."""

    def __init__(self, script: Callable[[Message[Any]], Awaitable[object]] | None = None) -> None:
        super().__init__()
        self.script = script

    async def __call__(self, message: Message[Any]) -> object:
        """Write down, then do it."""
        self.append(message.raw)
        return None if self.script is None else await self.script(message)
