"""Prepares one worker, runs its engine, and cleans up after it: everything between a worker object and messages.

It stands apart from the worker, which holds no state of ours, and from the engine, which knows no user, no environment
and no file. It reads no signals: :mod:`pythia_core.standalone` and the supervisor's child do.

Its order, of which each step is undone however the next one ends: settings and source (when made, so that what is wrong is
said before an event loop runs), connections, ``startup()``, connections made by it, the place for dead letters, the
engine, ``shutdown()``, connections closed.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs
import psutil

from pythia_core import plugins
from pythia_core.config import UNSET, Resolved, WorkerConfig, resolve
from pythia_core.connecting import persist
from pythia_core.contracts import Middleware, Resource, Sink, Source, Start, Surroundings, Telemetry
from pythia_core.engine.engine import Engine, effective_order
from pythia_core.engine.health import Exit, Health
from pythia_core.errors import ConfigError
from pythia_core.handlers import make_handler, takes_batches
from pythia_core.observing import Observation
from pythia_core.offloading import processes, processors, threads
from pythia_core.processor_use import ProcessorUse
from pythia_core.resources import Resources, held
from pythia_core.worker import NoSink, NoSource, Worker, worker_name

__all__ = ["Runtime", "has_monitor"]

log = logging.getLogger("pythia.worker")

SHUTDOWN_SECONDS = 5.0
PAUSED = "paused by an operator"

NO_FIGURES: Mapping[str, Any] = {
    "counters": {},
    "durations": [],
    "duration_sum": 0.0,
    "operations": {},
    "rebalance": None,
    "parked": 0,
    "held": 0.0,
    "paused": [],
    "full": [],
    "throttled": False,
    "partitions": 0,
}
"""What a worker reports while it has no engine."""

Waiting = Literal["", "broker", "itself"]


class Runtime:
    """One run of one worker.

    Args:
        worker: what to run.
        overrides: settings of the command line, by name.
        environ: the environment variables; the process's own unless given.
        file: a configuration file.
        slot: number of this process under its supervisor, from 0.
        nonce: random text, new with each process.
        registry: what plugins add; found out unless given.
        monitored: True if a monitor listens, so that every registered telemetry that has one is to report.

    Raises:
        ConfigError: if a setting is wrong or missing.
        PluginError: if a plugin is broken.
    """

    def __init__(
        self,
        worker: Worker[Any],
        *,
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        file: Path | None = None,
        slot: int = 0,
        nonce: str = "",
        registry: plugins.Registry | None = None,
        monitored: bool = False,
    ) -> None:
        environ = os.environ if environ is None else environ
        registry = plugins.load(environ) if registry is None else registry
        self.worker = worker
        self.name = worker_name(type(worker))
        self.resolved = self._resolve(overrides, environ, file, registry)
        start = Start(
            self.name,
            slot,
            nonce or secrets.token_hex(4),
            self.resolved.settings.max_concurrent_tasks,
            environ,
        )
        self.source = self._source().resolve(start)
        self.telemetry = self._telemetry(registry if monitored else None)
        self.observation = Observation(self.source, _system(self.source, registry))
        self._handler = make_handler(worker)
        self._check_drain()
        self._check_handler_timeout()
        self._check_dead_letter()
        self._resources = Resources(
            worker, self._open, self.resolved.settings.max_connections, self.source.broker_connections
        )
        self._starting: anyio.CancelScope | None = None
        self._engine: Engine | None = None
        self._stop_reason: str | None = None
        self.give_up: Callable[[str, Exit], None] | None = None  # see Engine; set by whoever owns the process
        self._waiting: tuple[Waiting, str] = ("itself", "starting")
        self._paused = False

    # -- settings --------------------------------------------------------------------------------------

    def _resolve(
        self,
        overrides: Mapping[str, Any] | None,
        environ: Mapping[str, str],
        file: Path | None,
        registry: plugins.Registry,
    ) -> Resolved:
        config = self.worker.config
        if config is not None and not isinstance(config, WorkerConfig):
            raise ConfigError(
                f"{type(self.worker).__name__}.config is a {type(config).__name__}; Pythia reads a WorkerConfig there, "
                "so give your own settings another name"
            )
        return resolve(
            config, overrides=overrides, environ=environ, file=file, worker=self.name, registry=registry
        )

    def _source(self) -> Source:
        source = self.worker.source
        if isinstance(source, NoSource) and self.resolved.source is not UNSET:
            return self.resolved.source
        if not isinstance(source, Source):
            raise ConfigError(f"{type(self.worker).__name__}.source is {source!r}, which is no Source")
        return source

    def _telemetry(self, registry: plugins.Registry | None) -> list[Telemetry]:
        """Return what is configured, what the worker has as attributes, and what a monitor needs, each class once."""
        attributes = [value for _, value in held(self.worker, Telemetry)]
        found = [*self.resolved.telemetry, *attributes]
        kinds = {type(telemetry) for telemetry in found}
        registered = registry.telemetry.values() if registry is not None else ()
        found += [kind() for kind in registered if has_monitor(kind) and kind not in kinds]
        for telemetry in found:
            telemetry.attach(self.report)
        return found

    def _check_drain(self) -> None:
        drain, revoke = self.resolved.settings.drain_timeout, self.source.capabilities.revoke_seconds
        if revoke is not None and drain > revoke:
            raise ConfigError(
                f"drain_timeout is {drain:g} s ({self.resolved.origin['drain_timeout']}), but {self.source.name} waits "
                f"only {revoke:g} s for a worker to let go of a partition; lower the one or raise the other"
            )

    def _check_handler_timeout(self) -> None:
        timeout, patience = (
            self.resolved.settings.handler_timeout,
            self.source.capabilities.settle_seconds,
        )
        if timeout is not None and patience is not None and timeout >= patience:
            raise ConfigError(
                f"handler_timeout is {timeout:g} s ({self.resolved.origin['handler_timeout']}), but {self.source.name} takes "
                f"a message back that is not settled within {patience:g} s, and delivers it again; lower the one or raise "
                "the other"
            )

    def _check_dead_letter(self) -> None:
        sink = self.resolved.dead_letter
        if isinstance(sink, Sink) and self.source.reads(sink):
            raise ConfigError(
                f"dead letters would go to {sink.name} ({self.resolved.origin['dead_letter']}), which {self.source.name} "
                "reads: each would come back and fail again, for ever; name another place, or leave it out of what is read"
            )

    # -- life ------------------------------------------------------------------------------------------

    async def run(self) -> Exit:
        """Run until stopped, and return the code to exit with.

        Raises:
            Exception: what ``startup`` raised, or ConfigError; all that was opened has been closed by then.
        """
        slots = self.resolved.settings.max_concurrent_tasks
        mark = threads.set(anyio.CapacityLimiter(slots))
        processes_mark = processes.set(anyio.CapacityLimiter(min(slots, processors())))
        started_up = False
        try:
            with anyio.CancelScope() as self._starting:
                if self._stop_reason is not None:
                    return Exit.CLEAN
                await self._resources.open_all()
                self._waiting = ("itself", "startup() is running")
                await self.worker.startup()
                started_up = True
                await self._resources.open_all()
                self._engine = await self._make_engine()
            if self._engine is None:
                return Exit.CLEAN
            if self._paused:
                self._engine.stops.add(PAUSED)
            if self._stop_reason is not None:  # it came when there was nothing left to cancel
                self._engine.stop(self._stop_reason)
            return await self._engine.run()
        finally:
            await self._end(started_up)
            threads.reset(mark)
            processes.reset(processes_mark)

    async def _end(self, started_up: bool) -> None:
        with anyio.CancelScope(shield=True):
            if started_up:
                await self._shut_down()
            await self._resources.aclose()

    async def _shut_down(self) -> None:
        with anyio.move_on_after(SHUTDOWN_SECONDS) as scope:
            try:
                await self.worker.shutdown()
            except Exception:
                log.exception("%s: shutdown() raised", self.name)
        if scope.cancelled_caught:
            log.error("%s: shutdown() did not end within %g s", self.name, SHUTDOWN_SECONDS)

    def stop(self, reason: str = "stopped", code: Exit = Exit.CLEAN) -> None:
        """Begin the graceful stop: what is starting is cancelled, what runs is drained. Later calls change nothing.

        Args:
            reason: for logs, health and telemetry.
            code: what an engine that was drained exits with.
        """
        if self._stop_reason is not None:
            return
        self._stop_reason = reason
        if self._engine is not None:
            self._engine.stop(reason, code)
        elif self._starting is not None:
            self._starting.cancel()

    def pause(self) -> None:
        """Fetch nothing more until :meth:`resume`; what is at work goes on, and stops and drains are as ever."""
        self._paused = True
        if self._engine is not None:
            self._engine.stops.add(PAUSED)

    def resume(self) -> None:
        """Fetch again."""
        self._paused = False
        if self._engine is not None:
            self._engine.stops.discard(PAUSED)

    def force(self) -> None:
        """Stop without a drain; what is at work will be delivered again."""
        self.stop("forced")
        if self._engine is not None:
            self._engine.force()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the worker's connections open for one block, without running anything of it."""
        try:
            await self._resources.open_all()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._resources.aclose()

    # -- preparation -----------------------------------------------------------------------------------

    async def _make_engine(self) -> Engine:
        resolved = self.resolved
        dead_letter = await self._open_dead_letter()
        self._say_what_runs(dead_letter)
        return Engine(
            self.source,
            self._handler,
            resolved.settings,
            name=self.name,
            codec=resolved.body_codec,
            sink=await self._open_sink(),
            dead_letter=dead_letter,
            middleware=[await self._opened(layer) for layer in resolved.middleware],
            telemetry=self.telemetry,
            batch=takes_batches(self.worker),
            give_up=self.give_up,
            memory=_resident_memory,
            processor=ProcessorUse() if resolved.settings.max_cpu_percent is not None else None,
        )

    async def _opened(self, layer: Middleware) -> Middleware:
        """Return a middleware that knows whose it is: a copy, if it holds a connection or counts something."""
        own: Middleware = await self._resources.copy_of(layer) if isinstance(layer, Resource) else layer
        own.attach(
            Surroundings(self.name, self.observation.system, self.source.name, self.source.group or "")
        )
        return own

    async def _open_sink(self) -> Sink | None:
        sink: Any = self.worker.sink
        if isinstance(sink, NoSink):
            sink = self.resolved.sink
            if sink is UNSET:
                return None
            self.worker.sink = sink
            await self._resources.open_all()
        return self.worker.sink

    async def _open_dead_letter(self) -> Sink | None:
        sink = self.resolved.dead_letter
        if sink is UNSET:
            if (place := self.source.dead_letters()) is None:
                raise ConfigError(
                    f"{self.source.name} has no natural place for dead letters: set dead_letter= to a sink, or to None "
                    "to have a message that cannot be processed stop its partition"
                )
            sink = place[0]
        if sink is None:
            return None
        opened: Sink = await self._resources.copy_of(sink)
        await persist(f"the place for dead letters, {opened.name}", opened.check, say=self._wait_for_broker)
        return opened

    def _say_what_runs(self, dead_letter: Sink | None) -> None:
        for warning in self.resolved.warnings:
            log.warning("%s", warning)
        scope = self.source.capabilities.order_scope
        if effective_order(self.resolved.settings, self.source) != "none" and scope != "partition":
            log.warning(
                "%s deals messages to whoever is free, so order=%r holds within one process only",
                self.source.name,
                self.resolved.settings.order,
            )
        where = (
            f"dead letters to {dead_letter.name}"
            if dead_letter
            else "no dead letters: a failure stops its partition"
        )
        group = f" as group {self.source.group}" if self.source.group else ""
        log.info("%s reads %s%s, %s", self.name, self.source.name, group, where)

    async def _open(self, resource: Resource) -> None:
        what = f"opening {type(resource).__name__} {getattr(resource, 'name', '')}".rstrip()
        await persist(what, resource.open, say=self._wait_for_broker, undo=resource.aclose)

    def _wait_for_broker(self, why: str) -> None:
        self._waiting = ("broker", why)

    # -- what it says of itself ------------------------------------------------------------------------

    def health(self) -> Health:
        """Return the state in words."""
        if self._stop_reason is not None and self._engine is None:
            return Health(live=True, ready=False, reasons=(f"stopping: {self._stop_reason}",))
        if self._engine is None:
            return Health(live=True, ready=False, reasons=(self._waiting[1],))
        return self._engine.health()

    def waiting_for(self) -> Waiting:
        """Say whom a worker that is not ready waits for. Once its engine runs it is its broker: nothing else stops it."""
        if self.health().ready:
            return ""
        return self._waiting[0] if self._engine is None else "broker"

    def partitions(self) -> int:
        """Return how many partitions the worker has at present."""
        session = None if self._engine is None else self._engine.session
        return 0 if session is None else len(session.ledgers)

    def busy(self) -> float:
        """Return the used share of the slots, 0 to 1."""
        if self._engine is None or not hasattr(self._engine, "pool"):
            return 0.0
        return min(1.0, len(self._engine.pool.running) / self.resolved.settings.max_concurrent_tasks)

    def report(self) -> dict[str, Any]:
        """Return all of it as JSON takes it; ``rss`` is the process's resident memory in bytes."""
        health = self.health()
        return {
            "name": self.name,
            "ready": health.ready,
            "live": health.live,
            "waiting_for": self.waiting_for(),
            "reasons": list(health.reasons),
            "stuck": [{**attrs.asdict(stuck), "text": str(stuck)} for stuck in health.stuck],
            "busy": self.busy(),
            "rss": _resident_memory(),
            "slots": self.resolved.settings.max_concurrent_tasks,
            "system": self.observation.system,
            "destination": self.source.name,
            "group": self.source.group,
            "queue": self.observation.report(),
            "observer_errors": self.observation.errors,
            **(self._engine.figures() if self._engine is not None else NO_FIGURES),
        }


def has_monitor(kind: Any) -> bool:
    """Tell whether a telemetry has another end, which takes the reports of all processes."""
    if not (isinstance(kind, type) and issubclass(kind, Telemetry)):
        return False
    return any("monitor" in vars(base) for base in kind.__mro__ if base is not Telemetry)


def _system(source: Source, registry: plugins.Registry) -> str:
    """Return the name by which configuration knows a source's kind, else that of its package."""
    named = (name for name, kind in registry.sources.items() if type(source) is kind)
    return next(named, type(source).__module__.partition(".")[0])


def _resident_memory() -> int:
    """Return the bytes of memory that this process has."""
    rss: int = psutil.Process().memory_info().rss
    return rss
