"""Whether anything gets dearer as it gets more: messages, keys, partitions, and what a poison message holds up.

The engine alone, on a source that makes messages as they are asked for; the time to make them is left out. A cost is the
CPU time per message between two fetches, so that starting and stopping are not in it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Never

import anyio
import attrs
import psutil
from anyio.lowlevel import checkpoint

from bench.probe import Figure, Probe, Subject
from bench.run import Run
from pythia_core import (
    Assignment,
    Capabilities,
    Chunk,
    Message,
    Owner,
    Partition,
    Retry,
    Settlement,
    Source,
    Subscription,
)
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import RetryPolicy, Settings

BODY = b"x" * 512
COLLECTOR = 20_000  # Pythia's default of gc_threshold
FETCH = 500  # messages, the engine's default
CHUNK = 50  # messages of one partition in a fetch, as a broker's batches are
FLAT = 1.1
TURNS = 3  # of each cell within a run
SETTLED = 10  # so that a thousand partitions have a thousand messages each: their ledgers have then found their size

Handler = Callable[[Message[Any]], Awaitable[object]]
Ack = Literal["cumulative", "individual"]


async def nothing(message: Message[Any]) -> None:
    """Handle a message."""


@attrs.define(eq=False)
class Endless(Source, Subscription):
    """A source of ``count`` messages, made when they are fetched, from its partitions in turn; it is one subscription.

    Args:
        count: how many in all.
        finished: returns how many the engine has finished.
        over: ends the engine; called when it has finished all, or all but one.
        keys: how many different keys, in turn.
        partitions: how many.
        chunk: how many messages of one partition a fetch brings before it turns to the next.
        ack: how it acknowledges.
    """

    count: int
    finished: Callable[[], int]
    over: Callable[[], None]
    keys: int = 1000
    partitions: int = 1
    chunk: int = FETCH
    ack: Ack = "cumulative"
    handed: int = 0
    looks: list[tuple[int, float]] = attrs.field(factory=list[tuple[int, float]])  # finished, CPU seconds
    _making: float = 0.0
    _next: list[int] = attrs.field(factory=list[int])  # position, by partition
    _turns: Iterator[int] = attrs.field(factory=lambda: iter(()))
    _stopped: anyio.Event = attrs.field(factory=anyio.Event)

    @property
    def name(self) -> str:
        """What logs call it."""
        return "endless"

    @property
    def capabilities(self) -> Capabilities:
        """As Kafka's, or as a queue's."""
        return Capabilities(ack=self.ack, order_scope="partition")

    async def subscribe(self, owner: Owner) -> Subscription:
        """Assign all partitions."""
        self._next = [0] * self.partitions
        self._turns = itertools.cycle(range(self.partitions))
        owner.assigned({number: Assignment(id=1, position=0) for number in range(self.partitions)})
        return self

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Make messages, and look at the clock before and after."""
        began = time.process_time()
        self.looks.append((self.finished(), began - self._making))
        chunks = self._make(room, min(limit, self.count - self.handed)) if limit and room else []
        if chunks:
            self._making += time.process_time() - began
            await checkpoint()  # as a client that waits for its socket
            return chunks
        if self.finished() >= self.count - 1:
            self.over()
        with anyio.move_on_after(min(wait, 0.01)):
            await self._stopped.wait()
        return ()

    def _make(self, room: Mapping[Partition, int], limit: int) -> list[Chunk]:
        chunks = []
        for partition in itertools.islice(self._turns, max(self.partitions, limit // self.chunk)):
            count = min(self.chunk, limit, room.get(partition, 0))
            if count > 0:
                chunks.append(self._chunk(partition, count))
                limit -= count
            if limit <= 0:
                break
        return chunks

    def _chunk(self, partition: int, count: int) -> Chunk:
        first, handed, keys = self._next[partition], self.handed, self.keys
        messages: list[Message[Any]] = [
            Message(BODY, key=(handed + n) % keys, partition=partition, position=first + n)  # type: ignore[arg-type]  # any hashable will do
            for n in range(count)
        ]
        self._next[partition] += count
        self.handed += count
        return Chunk(partition, messages, first + count)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Never]:
        """Take it."""
        return ()

    async def stop_fetching(self) -> None:
        """End a wait."""
        self._stopped.set()

    async def aclose(self) -> None:
        """End a wait."""
        self._stopped.set()

    def cost(self, first: int, last: int) -> float:
        """Return the CPU microseconds of each message between two counts of messages."""
        wanted = (first, min(last, self.count - 1))
        begin, end = (next(look for look in self.looks if look[0] >= count) for count in wanted)
        return (end[1] - begin[1]) / (end[0] - begin[0]) * 1e6


async def work(
    count: int, handler: Handler = nothing, settings: Settings | None = None, **options: Any
) -> Endless:
    """Run an engine over ``count`` messages; return the source, which knows what they cost."""
    source = Endless(count, lambda: engine.stats.finished, lambda: engine.force(), **options)
    engine = Engine(source, handler, settings or Settings(order="key"))
    with tuned(COLLECTOR):
        await engine.run()
    return source


async def messages(run: Run) -> None:
    """Run one engine for long, and look at the cost of a message at ever higher counts: the half before each."""
    source = await work(run.messages)
    for power in POWERS:
        count = min(10**power, run.messages)
        run.figures[f"{10**power:,}"] = source.cost(count // 2, count)


async def _cells(run: Run, cells: Mapping[str, Mapping[str, Any]], share: int = 100) -> None:
    """Note the cost of a message in each cell: the median of a few turns, in which they alternate.

    Args:
        run: what is measured.
        cells: the options of each.
        share: how many times fewer messages than in the longest run: half of them are let pass before the measuring begins.
    """
    costs: dict[str, list[float]] = {name: [] for name in cells}
    count = max(run.messages // share, 10_000)
    for _ in range(TURNS):
        for name, options in cells.items():
            costs[name].append((await work(count, **options)).cost(count // 2, count))
    run.figures.update({name: statistics.median(found) for name, found in costs.items()})


async def keys(run: Run) -> None:
    """Run with ever more different keys."""
    await _cells(run, {f"{count:,}": {"keys": count} for count in KEYS})


async def partitions(run: Run) -> None:
    """Run with ever more partitions, of ten of which a fetch brings 50 messages each; of one alone, ten times 50."""
    await _cells(run, {f"{count:,}": {"partitions": count, "chunk": CHUNK} for count in PARTITIONS}, SETTLED)


async def crumbs(run: Run) -> None:
    """Run with ever more partitions, of which a fetch brings one message after the other, each a chunk of its own."""
    await _cells(run, {f"{count:,}": {"partitions": count, "chunk": 1} for count in PARTITIONS}, SETTLED)


async def chunks(run: Run) -> None:
    """Run with ever smaller chunks of ten partitions: what a chunk costs, however little is in it."""
    await _cells(run, {f"{size:,}": {"partitions": 10, "chunk": size} for size in CHUNKS})


async def _poison(run: Run, **options: Any) -> None:
    """Let the first message fail for ever; note how much more memory there is at the end than at a tenth."""
    count = max(run.messages // 10, 10_000)
    sizes: list[float] = []
    handled = 0
    rss = psutil.Process().memory_info

    async def handler(message: Message[Any]) -> None:
        nonlocal handled
        handled += 1
        if handled in (count // 10, count - count // 50):
            sizes.append(rss().rss / 2**20)
        if message.position == 0 and message.partition == 0:
            raise Retry(0.2)

    settings = Settings(order="none", retry=RetryPolicy(attempts=10**9))
    await work(count, handler, settings, **options)
    run.figures.update(rss=sizes[-1], more=sizes[-1] - sizes[0])


async def span(run: Run) -> None:
    """Commit positions: the poisoned partition stops at its span, the other one goes on."""
    await _poison(run, partitions=2, chunk=CHUNK)


async def queue(run: Run) -> None:
    """Acknowledge each message: nothing stops."""
    await _poison(run, ack="individual")


POWERS = (4, 5, 6, 7)
KEYS = (1, 10, 100, 1000, 10_000, 100_000)
PARTITIONS = (1, 10, 100, 1000)
CHUNKS = (500, 50, 5, 1)


def _flat(counts: Sequence[int]) -> list[Figure]:
    """Return figures that may not be more than a tenth above that of the smallest count."""
    first, *rest = (f"{count:,}" for count in counts)
    return [Figure(first, "us"), *(Figure(each, "us", beside=first, most_ratio=FLAT) for each in rest)]


MEMORY = [Figure("rss", "MiB"), Figure("more", "MiB", most=1.0)]

BENCHES = [
    Probe(
        name="growth",
        title="the engine alone: CPU time of a message in key order as something grows, and memory behind a poison message",
        messages=10**7,
        few=20_000,
        subjects=[
            Subject("messages in one run", "bench.growth:messages", _flat([10**power for power in POWERS])),
            Subject("different keys", "bench.growth:keys", _flat(KEYS)),
            Subject("partitions, fetched 50 at a time", "bench.growth:partitions", _flat(PARTITIONS)),
            Subject("partitions, fetched singly", "bench.growth:crumbs", _flat(PARTITIONS)),
            Subject("messages in a chunk", "bench.growth:chunks", [Figure(f"{n:,}", "us") for n in CHUNKS]),
            Subject("poison at the head, positions committed", "bench.growth:span", MEMORY),
            Subject("poison at the head, each acknowledged", "bench.growth:queue", MEMORY),
        ],
        packages=["pythia-core", "anyio"],
    )
]
