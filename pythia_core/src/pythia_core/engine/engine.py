"""The engine: it puts the parts together, subscribes anew when a subscription is lost, and answers for its health.

A message's way: fetch -> intake -> ledger.admit -> scheduler -> worker task -> handler -> outputs -> ledger.mark ->
committer -> settle. A failure goes from the worker to the parking place or to the dead letters, and back.

Invariants:

- E1. A message is completed once: by its worker, by the publisher, or as an orphan; then its key closes or passes on.
- E2. ``run`` ends by ``settings.drain_timeout`` after ``stop``, and 1 s for a subscription that has not closed by then. (One
  that is being closed because it was lost has 10 s, which a stop does not cut short; ``force`` does.) Only a handler that
  ignores its cancellation keeps it: whoever owns the process ends it around it.
- E3. A subscription that is lost is followed by another, with backoff and full jitter, for as long as the engine runs.
- E4. A handler that a revoke cancelled and that has not ended ``settings.drain_timeout`` later means that
  the process must end: ``give_up`` is asked for it, or else health says that it is not live.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from pythia_core.backoff import full_jitter
from pythia_core.clock import Clock, loop_clock
from pythia_core.codecs import JSON, Codec, message_decoder
from pythia_core.contracts.message import Message, Partition
from pythia_core.contracts.middleware import Handler, Middleware
from pythia_core.contracts.sink import Sink
from pythia_core.contracts.source import Source
from pythia_core.contracts.telemetry import Telemetry
from pythia_core.engine.batches import BatchPool
from pythia_core.engine.brake import Brake
from pythia_core.engine.disposition import Disposition, Origin
from pythia_core.engine.health import Exit, Health
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.line import Line
from pythia_core.engine.noted_ledger import NotedLedger, Written
from pythia_core.engine.parking import Parking
from pythia_core.engine.pool import Pool
from pythia_core.engine.publisher import Publisher
from pythia_core.engine.scheduler import Scheduler
from pythia_core.engine.session import Session
from pythia_core.engine.stats import Stats
from pythia_core.engine.stops import Stops
from pythia_core.engine.suspects import Suspects
from pythia_core.engine.sweep import Sweep
from pythia_core.engine.watchdog import Watchdog
from pythia_core.engine.work import Work
from pythia_core.engine.wrapping import compose
from pythia_core.errors import ConfigError
from pythia_core.settings import Order, Settings

log = logging.getLogger("pythia.engine")

STEADY = 60.0  # seconds of subscription after which backoff begins anew
OBSERVE = (
    5.0  # seconds between looks at what is neither running nor parked, which may be thousands of messages
)
RESUBSCRIBE_BASE, RESUBSCRIBE_FACTOR, RESUBSCRIBE_CAP = 0.5, 2.0, 10.0


def root_cause(error: Exception) -> Exception:
    """Return the single error within groups of one, since a task group wraps whatever its tasks raise."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def effective_order(settings: Settings, source: Source) -> Order:
    """Return the order that runs: what was set, else ``key`` where the source orders by partition, else ``none``."""
    return settings.order or ("key" if source.capabilities.order_scope == "partition" else "none")


class Engine:
    """Runs one worker's messages from one source.

    Args:
        source: resolved.
        handler: called with each message; its result, if not None, is an output.
        settings: what to run by.
        name: the worker's name, for dead letters and logs.
        batch: True if ``handler`` takes a list of messages.
        codec: decodes bodies.
        sink: where returned values go, open; None drops them.
        dead_letter: where dead letters go, open; None stops the partition of a message that would be one.
        middleware: around the handler.
        telemetry: told of rare events.
        give_up: asked, with the reason and an exit code, to stop the engine where only the end of the process helps;
            None where the process is not ours to end.
        memory: returns the bytes of memory that the process has, for ``settings.max_memory_mb``.
        processor: returns per cent of the processors' time used since it was last called, for ``settings.max_cpu_percent``.
    """

    def __init__(
        self,
        source: Source,
        handler: Handler,
        settings: Settings,
        *,
        name: str = "worker",
        batch: bool = False,
        codec: Codec = JSON,
        sink: Sink | None = None,
        dead_letter: Sink | None = None,
        middleware: Sequence[Middleware] = (),
        telemetry: Sequence[Telemetry] = (),
        give_up: Callable[[str, Exit], None] | None = None,
        memory: Callable[[], int] | None = None,
        processor: Callable[[], float | None] | None = None,
    ) -> None:
        self.source = source
        self.settings = settings
        self.name = name
        self.stats = Stats()
        self.decode = message_decoder(codec)
        self.gates = [layer for layer in middleware if type(layer).admit is not Middleware.admit]
        self._undertakers = [layer for layer in middleware if type(layer).bury is not Middleware.bury]
        self.clock: Clock = time.monotonic
        self.stopping: anyio.Event | None = (
            None  # made in ``run``, since an engine is made without an event loop
        )
        self.deadline = float("inf")  # by when a stop has to end
        self.written: dict[
            Partition, Written
        ] = {}  # notes of assignments that ended, of whatever subscription
        self.stops = Stops(changed=self._stops_changed, resumed=self._intake_resumed)
        self.batch = batch
        self._sink = sink
        self._dead_letter = dead_letter
        self._telemetry = list(telemetry)
        self._handler = compose(handler, middleware)
        self._session: Session | None = None
        self._trouble: str | None = "not started"
        self._stop_reason: str | None = None
        self._exit = Exit.CLEAN
        self._give_up = give_up
        self.memory = memory
        self.processor = processor
        self.beyond_help: str | None = None  # why only the end of the process would help

    @property
    def session(self) -> Session | None:
        """The present subscription's side of it, or the last one's."""
        return self._session

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> Exit:
        """Work until :meth:`stop`; return the code to exit with.

        Raises:
            ConfigError: if the source cannot be subscribed to for a reason that only its user can mend.
        """
        self.clock = loop_clock()
        self.stopping = anyio.Event()
        if self._stop_reason is not None:
            self._begin_to_stop()
        self.tell("start", self.stats)
        for reason in self.stops:  # set before it ran
            self.tell("paused", reason, True)
        wrong: ConfigError | None = None  # raised outside of the group, which would wrap it
        async with anyio.create_task_group() as group:
            self._build(group)
            self.pool.start(group)
            group.start_soon(self.parking.run, name="pythia parking")
            group.start_soon(self.sweep.run, name="pythia sweep")
            group.start_soon(Watchdog(self).run, name="pythia watchdog")
            try:
                await self._subscribe_until_stopped()
            except ConfigError as error:
                wrong = error
            group.cancel_scope.cancel()
        self.tell("stopped", self._stop_reason or "")
        if wrong is not None:
            raise wrong
        return self._exit

    def _build(self, group: TaskGroup) -> None:
        settings, stats = self.settings, self.stats
        order = effective_order(settings, self.source)
        self.scheduler = Scheduler(order, stats, wake=self._wake, progress=self._progress)
        self.parking = Parking(self.clock, self._due)
        self.publisher = Publisher(
            group,
            batch=settings.batch_size,
            confirmed=self._confirmed,
            wrote=stats.operations["send"].count,
        )
        self.brake = Brake(
            group,
            settings.brake,
            self.scheduler,
            lambda: self.pool,
            self.stops,
            stats,
            published=self.publisher.jobs,
            clock=self.clock,
            barred=self._barred,
            run_suspect=self._run_suspect,
            released=self._brake_released,
        )
        self.disposition = Disposition(
            self.scheduler,
            self.parking,
            self.publisher,
            self.brake,
            stats,
            retry=settings.retry,
            origin=Origin(self.source.name, self.source.group or "", self.name),
            sink=self._sink,
            dead_letters=self._dead_letter,
            undertakers=self._undertakers,
            buried=lambda message, error: self.tell("dead_letter", message, error),
            stopped=self._partition_stopped,
        )
        self.pool = self._make_pool()
        self.suspects = Suspects(group, self)
        self.line = Line(group, self)
        self.work = Work(
            self.scheduler, self.pool, self.publisher, self.parking, self.disposition, self.line, self.clock
        )
        self.sweep = Sweep(self)

    def _make_pool(self) -> Pool:
        settings, stats = self.settings, self.stats
        timed = any(telemetry.durations for telemetry in self._telemetry)
        common = (settings.max_concurrent_tasks, self.scheduler, self._handler, stats, self.clock)
        failed, returned = self.disposition.failed, self.disposition.returned
        if not self.batch:
            return Pool(*common, failed=failed, returned=returned, idle=self._idle, timed=timed)
        window = self.source.capabilities.window or settings.batch_size
        return BatchPool(
            *common,
            batch=min(settings.batch_size, window, settings.limits.messages),
            linger=settings.batch_timeout,
            voided=self.disposition.voided,
            failed=failed,
            returned=returned,
            idle=self._idle,
            timed=timed,
        )

    def stop(self, reason: str = "stopped", code: Exit = Exit.CLEAN) -> None:
        """Begin the graceful stop; ``run`` drains and returns ``code``. Later calls change nothing."""
        if self._stop_reason is not None:
            return
        self._stop_reason = reason
        self._exit = code
        if self.stopping is not None:
            self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        assert self.stopping is not None
        self.deadline = self.clock() + self.settings.drain_timeout
        self.stopping.set()

    def force(self) -> None:
        """Stop without waiting for what is at work; it will be delivered again."""
        self.stop("forced")
        self.deadline = self.clock()
        if self._session is not None:
            self._session.drain.hurry()

    async def _subscribe_until_stopped(self) -> None:
        failures = 0
        while self._stop_reason is None:
            began = self.clock()
            session = self._session = Session(self)
            if not failures:  # or why the last attempt failed stays said while the next one is made
                self._trouble = f"subscribing to {self.source.name}"
            try:
                await session.run()
            except ConfigError:
                raise
            except Exception as error:
                failures = 1 if self.clock() - began > STEADY else failures + 1
                await self._back_off(failures, root_cause(error))

    async def _back_off(self, failures: int, error: Exception) -> None:
        delay = full_jitter(failures, RESUBSCRIBE_BASE, RESUBSCRIBE_FACTOR, RESUBSCRIBE_CAP, random.random)
        self._trouble = f"{self.source.name}: {type(error).__name__}: {error}"
        log.error("lost %s, again in %.1f s: %s: %s", self.source.name, delay, type(error).__name__, error)
        with anyio.move_on_after(delay):
            await self.stop_begun()

    async def stop_begun(self) -> None:
        """Wait until the engine stops."""
        assert self.stopping is not None
        await self.stopping.wait()

    @property
    def ledgers(self) -> Collection[Ledger]:
        """The ledgers that messages are taken into: none while there is no subscription, or once it stops."""
        session = self._session
        return () if session is None or session.closing else session.ledgers.values()

    def end_process(self, why: str, code: Exit) -> None:
        """Ask for the end of the process, where somebody owns it."""
        log.error("%s: the process should end: %s", self.source.name, why)
        if code == Exit.WATCHDOG or self._give_up is None:
            self.beyond_help = why
        if self._give_up is not None:
            self._give_up(why, code)

    # -- signals between the parts -------------------------------------------------------------------------------

    def _due(self, message: Message[Any]) -> None:
        """Have a parked message run again, alone if it may end its process."""
        if not message._failure.alone:
            self.scheduler.requeue(message)
        elif isinstance(message._ledger, NotedLedger):
            self.line.due(message)
        else:
            self.suspects.due(message)

    def _barred(self, message: Message[Any]) -> bool:
        """Tell whether a message may not run just so: it is a suspect, or one is being seen to."""
        return self.suspects.alone or self.line.holding or self.suspects.is_one(message)

    async def _run_suspect(self) -> bool:
        """Run one suspect for the brake; return False if there is none."""
        session = self._session
        if session is None or not session.subscribed or session.closing:
            return False
        return await self.line.run_one() or await self.suspects.run_one()

    def _brake_released(self) -> None:
        self.line.brake_released()
        self.suspects.brake_released()

    def _wake(self) -> None:
        self.pool.wake()

    def _progress(self) -> None:
        if self._session is not None:
            self._session.progress()

    def _stops_changed(self, reason: str, stopped: bool) -> None:
        if self.stopping is not None:  # telemetry hears nothing before its start
            self.tell("paused", reason, stopped)

    def _intake_resumed(self) -> None:
        if self._session is not None:
            self._session.intake.resumed.set()

    def _idle(self) -> None:
        if self._session is not None:
            self._session.idle()

    def _partition_stopped(self, ledger: Ledger) -> None:
        if self._session is not None:
            self._session.intake.close(ledger.partition)
            self._session.drain.nudge()

    def _confirmed(self, outputs: int) -> None:
        self.stats.outputs += outputs

    def tell(self, event: str, *details: Any) -> None:
        """Tell telemetry of an event; one that raises is logged once and dropped."""
        for telemetry in list(self._telemetry):
            if getattr(type(telemetry), event) is getattr(Telemetry, event):
                continue
            try:
                getattr(telemetry, event)(*details)
            except Exception:
                self._telemetry.remove(telemetry)
                log.exception("telemetry %s raised and is dropped", type(telemetry).__name__)

    # -- figures and health --------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """Return what is counted and what is so now, for reports; takes as long however many messages are in flight."""
        session, stats = self._session, self.stats
        full = () if session is None else tuple(session.intake.reasons)
        return {
            "counters": {**stats.counters(), "in_flight": stats.in_flight},
            "durations": list(stats.durations),
            "duration_sum": stats.duration_sum,
            "rebalance": stats.rebalance_seconds,
            "operations": {name: [done.buckets[:], done.total] for name, done in stats.operations.items()},
            "parked": len(self.parking) if hasattr(self, "parking") else 0,
            "held": self.sweep.held() if hasattr(self, "sweep") else 0.0,
            "paused": [*self.stops, *full],
            "full": list(full),
            "throttled": bool(self.stops),
            "partitions": len(self.ledgers),
        }

    def health(self) -> Health:
        """Return the state of the worker in words."""
        session = self._session
        live = self.beyond_help is None
        reasons = [] if self.beyond_help is None else [self.beyond_help]
        if self._stop_reason is not None:
            reasons.append(f"stopping: {self._stop_reason}")
        stuck = tuple(self.work.stuck()) if hasattr(self, "work") else ()
        if session is None or not session.subscribed:
            return Health(live, False, (*reasons, self._trouble or "not subscribed"), stuck)
        reasons += [ledger.stopped for ledger in session.ledgers.values() if ledger.stopped]
        paused = [f"intake stopped: {reason}" for reason in (*self.stops, *session.intake.reasons)]
        return Health(live, not reasons, (*reasons, *paused), stuck)
