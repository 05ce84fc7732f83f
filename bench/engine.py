"""The engine alone: what it adds to an empty handler, with no broker and no decoding in the figures."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Never

import anyio
import attrs

from bench.harness import Bench, Contender, Goal
from bench.run import Run
from pythia_core import (
    Assignment,
    Capabilities,
    Chunk,
    Message,
    Middleware,
    Owner,
    Partition,
    Settlement,
    Source,
    Subscription,
    Telemetry,
)
from pythia_core.contracts.middleware import Handler
from pythia_core.engine.engine import Engine
from pythia_core.settings import Order, Settings

BODY = 512  # bytes
KEYS = 1000


@attrs.frozen(eq=False)
class Premade(Source):
    """A source over messages that are there already, acknowledged by position; it tells when all are settled."""

    messages: Sequence[Message[bytes]]
    all_settled: Callable[[], None]

    @property
    def name(self) -> str:
        """What logs call it."""
        return "premade"

    @property
    def capabilities(self) -> Capabilities:
        """As Kafka's."""
        return Capabilities(ack="cumulative", order_scope="partition")

    async def subscribe(self, owner: Owner) -> Subscription:
        """Assign the only partition."""
        owner.assigned({0: Assignment(id=1, position=0)})
        return PremadeSubscription(self)


@attrs.define(eq=False)
class PremadeSubscription(Subscription):
    """Hands out slices."""

    source: Premade
    _at: int = 0
    _stopped: anyio.Event = attrs.field(factory=anyio.Event)

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return the next slice, or wait as a broker would."""
        messages = self.source.messages[self._at : self._at + min(limit, room.get(0, 0))]
        self._at += len(messages)
        if messages:
            return (Chunk(0, messages, self._at),)
        with anyio.move_on_after(wait):
            await self._stopped.wait()
        return ()

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Never]:
        """Look whether that was all."""
        if settlements[-1].through == len(self.source.messages):
            self.source.all_settled()
        return ()

    async def stop_fetching(self) -> None:
        """End a wait."""
        self._stopped.set()

    async def aclose(self) -> None:
        """End a wait."""
        self._stopped.set()


def premade(count: int, keys: int = KEYS) -> list[Message[bytes]]:
    """Return messages of one shared body; the collector, in whose figures we are not interested, forgets them."""
    body = b"x" * BODY
    messages: list[Message[bytes]] = [
        Message(body, key=str(number % keys), position=number) for number in range(count)
    ]
    gc.collect()
    gc.freeze()
    return messages


async def nothing(message: Message[bytes]) -> None:
    """Handle a message."""


async def bare(run: Run) -> None:
    """Await the handler for each message and do nothing else."""
    messages = premade(run.messages)
    run.start()
    for message in messages:
        await nothing(message)
    run.stop()


async def work(
    run: Run,
    order: Order,
    *,
    keys: int = KEYS,
    middleware: Sequence[Middleware] = (),
    telemetry: Sequence[Telemetry] = (),
) -> None:
    """Run an engine until everything is settled."""
    messages = premade(run.messages, keys)

    def all_settled() -> None:
        run.stop()
        engine.stop()

    settings = Settings(order=order)
    engine = Engine(
        Premade(messages, all_settled), nothing, settings, middleware=middleware, telemetry=telemetry
    )
    run.start()
    await engine.run()
    if engine.stats.settled != run.messages:
        raise RuntimeError(f"{engine.stats.settled} of {run.messages} messages were settled")


async def key_order(run: Run) -> None:
    """Run with 1,000 keys in order."""
    await work(run, "key")


async def many_keys(run: Run) -> None:
    """Run with 100,000 keys in order."""
    await work(run, "key", keys=100_000)


async def no_order(run: Run) -> None:
    """Run without order."""
    await work(run, "none")


class Layer(Middleware):
    """The least that a middleware can be."""

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler around the handler."""

        async def around(message: Message[bytes]) -> object:
            return await handler(message)

        return around


class Durations(Telemetry):
    """The dearest telemetry: it wants the time of every handler call."""

    durations = True


async def layered(run: Run) -> None:
    """Run with 1,000 keys in order and three middlewares."""
    await work(run, "key", middleware=[Layer(), Layer(), Layer()])


async def dressed(run: Run) -> None:
    """Run with 1,000 keys in order, three middlewares and a telemetry."""
    await work(run, "key", middleware=[Layer(), Layer(), Layer()], telemetry=[Durations()])


PACKAGES = ["pythia-core", "anyio"]

BENCHES = [
    Bench(
        name="engine",
        title=f"the engine alone, bodies of {BODY} bytes not decoded, every message settled",
        messages=500_000,
        reference=Contender("await handler(message)", "bench.engine:bare"),
        contenders=[
            Contender("key order, 1,000 keys", "bench.engine:key_order", Goal("time", 8)),
            Contender("no order", "bench.engine:no_order", Goal("time", 5)),
            Contender("key order, 100,000 keys", "bench.engine:many_keys"),
        ],
        packages=PACKAGES,
    ),
    Bench(
        name="layers",
        title="the same in key order with 1,000 keys: what middlewares (the least one can be) and telemetry add",
        messages=300_000,
        reference=Contender("nothing around the handler", "bench.engine:key_order"),
        contenders=[
            Contender("3 middlewares", "bench.engine:layered"),
            Contender("3 middlewares, telemetry of durations", "bench.engine:dressed", Goal("more", 0.5)),
        ],
        packages=PACKAGES,
    ),
]
