"""The engine's core, driven by hand: every coroutine is advanced by the test, so each order of events can be tried.

What runs is the real thing (the workers' loop, session, scheduler, ledgers, disposition, one pass of the committer);
only what would wait for an event loop is replaced by a pause that hands control back to the test.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableSet,
    Sequence,
)
from typing import Any, TypeVar, cast

import anyio
import attrs
from anyio.abc import TaskGroup

from pythia_core.contracts import (
    Capabilities,
    Chunk,
    Message,
    Output,
    Owner,
    Partition,
    Refusals,
    Settlement,
    Sink,
    Source,
    Subscription,
    WriteResult,
)
from pythia_core.engine.batches import BatchPool, Verdict
from pythia_core.engine.engine import Engine
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.line import Line
from pythia_core.engine.pool import Pool, Slot
from pythia_core.engine.publisher import Job
from pythia_core.engine.session import Session
from pythia_core.engine.work import Work
from pythia_core.settings import Settings

T = TypeVar("T")


class InOrder(MutableSet[T]):
    """Stands in for a set where its order would else differ from run to run: it keeps that of insertion."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: T) -> None:
        """Add an item, as the last one if it is new."""
        self._items[value] = None

    def discard(self, value: T) -> None:
        """Take an item out, if it is there."""
        self._items.pop(value, None)


class Pause:
    """Awaiting it hands ``what`` to whoever drives the coroutine, and returns what is sent back."""

    def __init__(self, what: object) -> None:
        self.what = what

    def __await__(self) -> Generator[object, Any, Any]:
        return (yield self.what)


class Switch:
    """Stands in for a cancel scope."""

    def cancel(self) -> None:
        """Do nothing: a handler that is cancelled ends when the test says so."""


class NoBaton:
    """Stands in for a lock."""

    async def __aenter__(self) -> None:
        """Do nothing."""

    async def __aexit__(self, *error: object) -> None:
        """Do nothing."""


class NoGroup:
    """Stands in for a task group: nothing runs by itself here."""

    def start_soon(self, *args: object, **options: object) -> None:
        """Do nothing."""


class ByHand(Pool):
    """The workers; each runs until its handler waits or nothing is ready, and goes on when the test says so."""

    loops: dict[Slot, Coroutine[object, Any, None]]

    def begin(self) -> None:
        """Start all workers; they find nothing to do."""
        self.loops = {}
        self.slots = cast(set[Slot], InOrder[Slot]())
        self._turn_ends = float("inf")
        for _ in range(self.size):
            self._hire()

    def _hire(self) -> None:
        slot = Slot(cast(anyio.CancelScope, Switch()))
        self.slots.add(slot)
        self.loops[slot] = self._loop(slot)
        self.go(slot)

    def go(self, slot: Slot, result: object = None, error: BaseException | None = None) -> None:
        """Let a worker's handler return or raise; the worker then takes the next message, if one is ready."""
        loop = self.loops[slot]
        try:
            if error is None:
                loop.send(result if slot.message is not None else None)
            else:
                loop.throw(error)
        except StopIteration:
            del self.loops[slot]
            self.slots.discard(slot)

    def close(self) -> None:
        """End all workers, wherever they are."""
        for slot, loop in list(self.loops.items()):
            slot.active = False
            loop.close()

    @property
    def sleeping(self) -> list[Slot]:
        """The workers that have nothing to do."""
        return [slot for slot in self.loops if slot.message is None]

    async def _sleep(self) -> None:
        await Pause(None)

    def _meaning(self, slot: Slot, error: BaseException) -> BaseException:
        if isinstance(error, AssertionError):  # a check of the test, made where the handler begins
            raise error
        return error


class HandPool(ByHand):
    """Workers that take one message."""


class HandBatchPool(ByHand, BatchPool):
    """Workers that take a batch; they do not wait for it to fill."""

    disposing: Callable[[Sequence[Message[Any]]], None]  # called before a batch is disposed of

    def begin(self) -> None:
        """Start all workers; each takes what is ready when the test wakes it."""
        self._baton = cast(anyio.Lock, NoBaton())
        super().begin()

    async def _fill(self) -> None:
        while not self._scheduler.ready:
            await self._sleep()

    def _dispose(self, verdict: Verdict) -> None:
        self.disposing(verdict.batch)
        super()._dispose(verdict)


@attrs.frozen
class HandSource(Source):
    """A source that is only its capabilities."""

    capabilities: Capabilities
    name = "orders"

    async def subscribe(self, owner: Owner) -> Subscription:
        raise NotImplementedError


class HandSink(Sink):
    """A sink to which nothing is written: the test confirms."""

    name = "out"

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        raise NotImplementedError


class HandSubscription(Subscription):
    """Hands settlements to the test and returns its answer."""

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        raise NotImplementedError

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        return cast(Refusals, await Pause(settlements))

    async def aclose(self) -> None:
        raise NotImplementedError


class NoLine(Line):
    """Lets suspects run like all others: by hand nothing runs alone."""

    def take_in(self, ledger: Ledger, message: Message[Any], number: int) -> None:
        """Queue a message."""
        self._engine.scheduler.admit([(ledger, (message,), number)])


class HandEngine:
    """An engine with one session and no event loop.

    Args:
        capabilities: of its source.
        settings: its settings.
        handler: what the workers run.
        dead_letters: whether there is a place for dead letters.
        batch: most messages of a batch; 0 for single messages.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        settings: Settings,
        handler: Callable[[Any], Awaitable[object]],
        *,
        dead_letters: bool,
        batch: int = 0,
    ) -> None:
        self.sink = HandSink()
        self.engine = engine = Engine(
            HandSource(capabilities),
            handler,
            settings,
            sink=self.sink,
            dead_letter=HandSink() if dead_letters else None,
        )
        engine.clock = lambda: 0.0
        engine._build(cast(TaskGroup, NoGroup()))
        engine.publisher.jobs = cast(set[Job], InOrder[Job]())
        common = (
            settings.max_concurrent_tasks,
            engine.scheduler,
            engine._handler,
            engine.stats,
            engine.clock,
        )
        named: dict[str, Any] = {
            "failed": engine.disposition.failed,
            "returned": engine.disposition.returned,
            "idle": lambda: None,
        }
        if batch:
            voided = engine.disposition.voided
            self.pool: ByHand = HandBatchPool(*common, batch=batch, linger=0.0, voided=voided, **named)
        else:
            self.pool = HandPool(*common, **named)
        engine.pool = self.pool
        engine.line = NoLine(cast(TaskGroup, NoGroup()), engine)
        parts = (
            engine.scheduler,
            self.pool,
            engine.publisher,
            engine.parking,
            engine.disposition,
            engine.line,
        )
        engine.work = Work(*parts, engine.clock)
        self.pool.begin()
        self.session = engine._session = Session(engine)
        self.session._subscription = HandSubscription()
        self.session.subscribed = True
        self._pass: Coroutine[object, Any, None] | None = None

    @property
    def settling(self) -> bool:
        """True while a call of ``settle`` is under way."""
        return self._pass is not None

    def begin_to_settle(self, *, renew: bool) -> Sequence[Settlement]:
        """Begin a pass of the committer; return what the broker is told, which is empty if the pass is over."""
        committer = self.session.committer
        in_order = sorted(committer.dirty, key=lambda ledger: str(ledger.partition))
        committer.dirty = cast(set[Ledger], InOrder(in_order))
        committer._renew_at = float("-inf") if renew else float("inf")
        self._pass = committer._pass()
        try:
            return cast(Sequence[Settlement], self._pass.send(None))
        except StopIteration:
            self._pass = None
            return ()

    def end_settling(self, answer: Refusals | Exception) -> None:
        """Let the call of ``settle`` return or raise."""
        assert self._pass is not None
        try:
            if isinstance(answer, Exception):
                self._pass.throw(answer)
            else:
                self._pass.send(answer)
        except StopIteration:
            self._pass = None
            return
        raise AssertionError("a pass settles once")

    def begin_revoke(self, ledger: Ledger) -> None:
        """Do what a revoke does before it waits."""
        ledger.draining = True
        self.session.intake.close(ledger.partition)
        self.session.drain.release([ledger])

    def end_revoke(self, ledger: Ledger) -> None:
        """Do what a revoke does after it has waited."""
        self.session._let_go([ledger])
