"""What a worker process does once it listens: load the workers, run them, report each second, and end.

Whatever goes wrong before the workers run is told to the supervisor, which prints it once for all its children.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs

from pythia_core import logs, plugins
from pythia_core.budget import memory_fault, memory_limit
from pythia_core.collector import tuned
from pythia_core.config import resolve
from pythia_core.engine.health import Exit
from pythia_core.errors import ConfigError
from pythia_core.last_resort import LastResort
from pythia_core.loader import explain, load_workers
from pythia_core.reporting import Reporter
from pythia_core.runtime import Runtime
from pythia_core.supervisor.fleet import KILL_GRACE
from pythia_core.supervisor.link import Link, Order
from pythia_core.supervisor.wire import Options
from pythia_core.together import Ended, event_loop_options, run_together

__all__ = ["explain", "prepare", "serve"]

REPORT_SECONDS = 1.0
LINGER_SECONDS = 5.0  # for threads that a user left behind, and for what runs at exit

log = logging.getLogger("pythia.worker")


def serve(options: Options, link: Link) -> int:
    """Run to the end, and return the exit code."""
    try:
        runtimes = prepare(options, f"{options.who} process {options.number}".lstrip())
        loop_options = event_loop_options(runtimes)
    except (Exception, SystemExit) as error:
        # An OSError at import may be a database that is down; anything else would happen again.
        link.say("fault", text=explain(error, options.target), hopeless=not isinstance(error, OSError))
        link.flush()
        return Exit.ERROR
    child = _Child(link, runtimes)
    if options.paused:
        child.obey("pause")
    link.say("loaded", listen=_wish_to_listen(runtimes), drain_timeout=child.drain_timeout)
    with tuned(min(runtime.resolved.gc_threshold for runtime in runtimes)):
        code: int = anyio.run(child.run, backend="asyncio", backend_options=loop_options)
    link.flush()
    return code


def prepare(options: Options, who: str) -> list[Runtime]:
    """Load and make the workers, each class once, in this order so that logging works for all of it.

    Args:
        options: what the supervisor said.
        who: what lines of the log begin with.

    Raises:
        Exception: whatever importing or making them raises.
    """
    file = Path(options.config) if options.config else None
    said = resolve(overrides=options.overrides, environ=os.environ, file=file)
    logs.configure(said.log_level, said.log_format, who=who)
    classes = load_workers(options.target)
    registry = plugins.load(os.environ)
    nonce = secrets.token_hex(4)
    runtimes = [
        Runtime(
            _instance(kind),
            overrides=options.overrides,
            file=file,
            slot=options.slot,
            nonce=nonce,
            registry=registry,
            monitored=options.monitored,
        )
        for kind in classes
    ]
    first = runtimes[0].resolved
    logs.configure(first.log_level, first.log_format, who=who)
    bounds = [runtime.resolved.settings.max_memory_mb for runtime in runtimes]
    most = max((bound for bound in bounds if bound), default=None)
    if fault := memory_fault(most, options.processes, memory_limit()):
        raise ConfigError(fault)
    return runtimes


def _wish_to_listen(runtimes: Sequence[Runtime]) -> str | None:
    """Return where a telemetry in code wants its monitor to listen."""
    found = (telemetry.listen for runtime in runtimes for telemetry in runtime.telemetry)
    return next((address for address in found if address), None)


def _instance(kind: Any) -> Any:
    import inspect

    missing = [
        parameter.name
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if missing:
        raise ConfigError(
            f"{kind.__name__} cannot be made without {', '.join(missing)}: give its __init__ defaults for them"
        )
    return kind()


@attrs.define(eq=False)
class _Child:
    """The workers of this process as one, as the supervisor sees them."""

    link: Link
    runtimes: Sequence[Runtime]
    last_resort: LastResort = attrs.field(factory=LastResort)
    reporter: Reporter = attrs.field(
        default=attrs.Factory(lambda self: Reporter(self.runtimes), takes_self=True)
    )
    _observing: anyio.Event = attrs.field(init=False)  # made in ``run``: there is no event loop before
    _last: dict[str, Any] = attrs.field(factory=dict)  # report

    @property
    def drain_timeout(self) -> float:
        """Seconds, the longest of all."""
        return max(runtime.resolved.settings.drain_timeout for runtime in self.runtimes)

    async def run(self) -> int:
        """Run until stopped, broken or recycled."""
        loop = (
            asyncio.get_running_loop()
        )  # a child always runs asyncio; anyio has no call from a thread that does not wait
        self._observing = anyio.Event()
        self.link.bind(lambda order: self.hear(order, loop))
        ended = Ended()
        async with anyio.create_task_group() as group:
            group.start_soon(self._report_for_ever)
            group.start_soon(self._observe_when_told)
            ended = await run_together(self.runtimes, self.give_up, self.say_blocked)
            group.cancel_scope.cancel()
        self._report()
        for text in ended.refusals:
            self.link.say("fault", text=text, hopeless=True)
        self.last_resort.disarm()
        self.last_resort.arm(LINGER_SECONDS, ended.code)
        return ended.code

    def hear(self, order: Order, loop: asyncio.AbstractEventLoop) -> None:
        """Pass on an order, in the listening thread: the end comes also where the event loop is blocked and obeys nothing.

        A supervisor would kill such a process, but not one that has died.
        """
        if order == "force":
            self.last_resort.arm(KILL_GRACE, Exit.WATCHDOG)
        elif order in ("stop", "recycle", "sigterm", "orphaned"):
            self.last_resort.arm(self.drain_timeout + KILL_GRACE, Exit.WATCHDOG)
        loop.call_soon_threadsafe(self.obey, order)

    def obey(self, order: Order) -> None:
        """Do as told."""
        if order == "observe":
            self._observing.set()
            return
        if order in ("pause", "resume"):
            for runtime in self.runtimes:
                runtime.pause() if order == "pause" else runtime.resume()
            return
        if order == "force":
            for runtime in self.runtimes:
                runtime.force()
            return
        reason = {
            "stop": "the supervisor says so",
            "recycle": "it is recycled",
            "sigterm": "it was sent SIGTERM",
            "orphaned": "its supervisor has died",
        }[order]
        if order == "orphaned":
            log.error("the supervisor has died: draining")
        self.stop(reason, Exit.RECYCLE if order == "recycle" else Exit.CLEAN)

    def stop(self, reason: str, code: Exit) -> None:
        """Drain and end, told to or not."""
        self.link.say("draining", reason=reason)
        self.last_resort.arm(self.drain_timeout + KILL_GRACE, Exit.WATCHDOG)
        for runtime in self.runtimes:
            runtime.stop(reason, code)

    def give_up(self, reason: str, code: Exit) -> None:
        """Do what a worker asks for that cannot go on: make room for another process, or end."""
        if code == Exit.RECYCLE:
            self.ask_to_recycle(reason)
        else:
            self.stop(reason, code)

    def ask_to_recycle(self, reason: str) -> None:
        """Ask to be replaced; the work goes on until the supervisor says so. It lets one child at a time go."""
        self.link.say("tired", reason=reason)

    async def _observe_when_told(self) -> None:
        """Ask what is left in the sources, once the supervisor has chosen this process for it."""
        await self._observing.wait()
        async with anyio.create_task_group() as group:
            for runtime in self.runtimes:
                group.start_soon(runtime.observation.run, name=f"pythia observes {runtime.source.name}")

    async def _report_for_ever(self) -> None:
        while True:
            self._report()
            await anyio.sleep(REPORT_SECONDS if self._all_ready() else REPORT_SECONDS / 10)

    def _all_ready(self) -> bool:
        return all(runtime.health().ready for runtime in self.runtimes)

    def _report(self) -> None:
        self._last = self.reporter.report()
        self.link.say("report", **self._last)

    def say_blocked(self, reason: str) -> None:
        """Report in place of a loop that cannot; called in another thread, so it looks at nothing that belongs to the loop."""
        if self._last:
            self.link.say(
                "report", **{**self._last, "ready": False, "waiting_for": "itself", "reasons": [reason]}
            )
