"""Load tests: so many workers, so many messages a second, for so long; figures, and proof that nothing was lost."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs

from pythia_core.brokers.memory import MemoryConsumer
from pythia_core.contracts import Sink, Source, Start
from pythia_core.errors import ConfigError
from pythia_core.runtime import Runtime
from pythia_core.testing.arrivals import Arrivals
from pythia_core.testing.crew import AnyWorker, here, processes, target_of
from pythia_core.testing.recording import Attempt, read_attempts
from pythia_core.testing.verdict import LoadResults, judge
from pythia_core.worker import NoSource, worker_name

__all__ = ["LoadTester", "Progress"]

CONNECT_SECONDS = 10.0
LOOK = 0.1  # seconds between two looks at what is done
DRAIN_SECONDS = 30.0  # as long as the longest wait between two attempts by default


@attrs.frozen
class Progress:
    """How far a load test is: messages sent and processed of all, ."""

    sent: int
    done: int
    total: int


def _positive(tester: LoadTester, field: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{field.name} is {value!r}; it must be more than 0")


@attrs.define(eq=False, kw_only=True)
class LoadTester:
    """Runs workers under a steady load on the broker that they are written for.

    Each worker is a process, started as ``python worker.py`` would be, and messages go to where its source reads. A worker
    on the broker in memory runs once, in this event loop, since nothing outside this process could reach that broker.
    Messages that lay there before are processed too, and not counted.

    Of several classes, the stages of a pipeline, the first gets the messages, and a message is done when the last one has
    processed what came of it: latency, losses, repetitions and order are those from end to end. A message is known by a
    header, which what a handler returns, or sends by a sink's ``send``, is given; what a batch writes is not followed.

    Args:
        worker_class: what to run, one class or the stages in turn; each has to stand at the top level of a file.
        num_workers: how many processes, of each class.
        messages_per_second: how many messages are sent, evenly, whether or not the workers keep up.
        duration_seconds: for how long.
        message_factory: makes the body of message ``n``, counted from 0; ``{"id": n}`` if left out.
        keys: message ``n`` has the key ``key-{n % keys}``.
        drain_seconds: after the last message, how long nothing may happen before what is missing counts as missing.
        watch: told now and then how far it is.

    Raises:
        ConfigError: if a number is out of bounds, or the class cannot be found by another process.

    Example:
        ::

            results = await LoadTester(
                worker_class=OrderProcessor, num_workers=10, messages_per_second=1000, duration_seconds=300
            ).run()
            assert results.proven
            assert results.latency(99) < 0.5
    """

    worker_class: AnyWorker | Sequence[AnyWorker]
    num_workers: int = attrs.field(default=1, validator=_positive)
    messages_per_second: float = attrs.field(default=100.0, validator=_positive)
    duration_seconds: float = attrs.field(default=10.0, validator=_positive)
    message_factory: Callable[[int], Any] | None = None
    keys: int = attrs.field(default=100, validator=_positive)
    drain_seconds: float = attrs.field(factory=lambda: DRAIN_SECONDS, validator=_positive)
    watch: Callable[[Progress], None] = lambda progress: None

    async def run(self) -> LoadResults:
        """Start the workers, send the messages, wait until they are processed, stop the workers, and judge.

        Raises:
            LoadTestError: if a process did not become ready, ended by itself, or did not end well.
            ConfigError: if the worker cannot run as it is set up.
            OSError: if the broker cannot be reached.
        """
        arrivals = self._arrivals()
        source = self._source()
        with tempfile.TemporaryDirectory(prefix="pythia-load-") as name:
            log = _Log(Path(name), self._last(source))
            # The sink first: a broker that is away is told at once, and not after the workers have waited for it.
            crew = self._crew(source, arrivals.run, log.folder)
            async with _opened(source.counterpart()) as sink, crew as ordered:
                await self._load(arrivals, sink, log)
            log.read()
        keys = self.keys if ordered else None
        return judge(
            arrivals.began,
            arrivals.total,
            arrivals.confirmed,
            [made for number, made in log.by_number() if number >= log.last],
            keys=keys,
            earlier=[made for number, made in log.by_number() if number < log.last],
        )

    @property
    def _stages(self) -> Sequence[AnyWorker]:
        return (self.worker_class,) if isinstance(self.worker_class, type) else tuple(self.worker_class)

    def _last(self, source: Source) -> int:
        """Return the number of the first process of the last stage."""
        return (len(self._stages) - 1) * (1 if isinstance(source, MemoryConsumer) else self.num_workers)

    def _arrivals(self) -> Arrivals:
        return Arrivals(
            run=secrets.token_hex(8),
            rate=self.messages_per_second,
            total=max(1, round(self.messages_per_second * self.duration_seconds)),
            keys=self.keys,
            body=self.message_factory or (lambda number: {"id": number}),
        )

    def _source(self) -> Source:
        """Return where the workers read; a class that says so is not made for it, since that is done once in a process."""
        first = self._stages[0]
        source = first.source
        if isinstance(source, NoSource):
            return Runtime(first()).source
        return source.resolve(Start(worker_name(first), environ=os.environ))

    def _crew(self, source: Source, run: str, folder: Path) -> AbstractAsyncContextManager[bool]:
        if isinstance(source, MemoryConsumer):
            return here(self._stages, run, folder)
        return processes([*map(target_of, self._stages)], run, folder, self.num_workers)

    async def _load(self, arrivals: Arrivals, sink: Sink, log: _Log) -> None:
        """Send the messages and wait for what becomes of them."""
        await sink.check()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, arrivals, log)
            await arrivals.send(sink)
            await self._drained(arrivals, log)
            group.cancel_scope.cancel()

    async def _drained(self, arrivals: Arrivals, log: _Log) -> None:
        """Wait until all that was sent is processed, or nothing has happened for a while."""
        quiet, seen = anyio.current_time(), log.read()
        while not arrivals.confirmed <= log.done and anyio.current_time() - quiet < self.drain_seconds:
            await anyio.sleep(LOOK)
            if (now := log.read()) != seen:
                quiet, seen = anyio.current_time(), now

    async def _watch(self, arrivals: Arrivals, log: _Log) -> None:
        while True:
            log.read()
            self.watch(Progress(len(arrivals.confirmed), len(log.done), arrivals.total))
            await anyio.sleep(LOOK)


@attrs.define(eq=False)
class _Log:
    """What the processes have written down so far."""

    folder: Path
    last: int  # the number of the first process whose attempts make a message done
    by_worker: dict[int, list[Attempt]] = attrs.field(factory=dict[int, list[Attempt]], init=False)
    done: set[int] = attrs.field(factory=set[int], init=False)

    def read(self) -> int:
        """Read what is new, and return how many attempts there are in all."""
        for path in self.folder.glob("attempts-*"):
            number = int(path.name.removeprefix("attempts-"))
            known = self.by_worker.setdefault(number, [])
            new = read_attempts(path, len(known))
            known += new
            if number >= self.last:
                self.done.update(attempt.number for attempt in new if attempt.good)
        return sum(map(len, self.by_worker.values()))

    def by_number(self) -> list[tuple[int, list[Attempt]]]:
        """Return what each process did, by its number."""
        return sorted(self.by_worker.items())


@asynccontextmanager
async def _opened(sink: Sink) -> AsyncIterator[Sink]:
    with anyio.fail_after(CONNECT_SECONDS):
        await sink.open()
    try:
        yield sink
    finally:
        await sink.aclose()
