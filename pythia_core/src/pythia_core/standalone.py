"""Runs a worker in the present process, without a supervisor: what ``python worker.py`` does."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio

from pythia_core import logs
from pythia_core.collector import tuned
from pythia_core.engine.health import Exit
from pythia_core.errors import ConfigError, PluginError, PythiaError
from pythia_core.last_resort import LastResort
from pythia_core.monitoring import Monitoring
from pythia_core.reporting import Reporter
from pythia_core.runtime import Runtime, has_monitor
from pythia_core.signals import StopSignals
from pythia_core.supervisor.events import Report
from pythia_core.supervisor.fleet import Child
from pythia_core.supervisor.watch import Watch, describe_fleet
from pythia_core.together import Ended, Stop, event_loop_options, run_together
from pythia_core.worker import Worker

__all__ = ["run_here"]

log = logging.getLogger("pythia.worker")

MONITOR_SECONDS = 1.0
GRACE = 10.0  # seconds past the drain timeout, for shutdown() and for closing connections


def run_here(worker: Worker[Any], make: Callable[[Worker[Any]], Runtime] = Runtime) -> int:
    """Run until SIGTERM or SIGINT and drain; return the exit code.

    Args:
        worker: what to run.
        make: makes its runtime; it may raise ConfigError or PluginError as that does.
    """
    logs.configure()  # for what goes wrong before it is known how to log
    try:
        runtime = make(worker)
        options = event_loop_options([runtime])
    except (ConfigError, PluginError) as error:
        log.error("%s", error)
        return Exit.ERROR
    logs.configure(runtime.resolved.log_level, runtime.resolved.log_format)
    with tuned(runtime.resolved.gc_threshold):
        return anyio.run(_main, runtime, backend="asyncio", backend_options=options)


async def _main(runtime: Runtime) -> int:
    last_resort, ended = LastResort(), Ended()

    def stop(reason: str, code: Exit) -> None:
        last_resort.arm(runtime.resolved.settings.drain_timeout + GRACE, Exit.WATCHDOG)
        runtime.stop(reason, code)

    async with anyio.create_task_group() as group:
        if threading.current_thread() is threading.main_thread():  # signals belong to it
            await group.start(_obey_signals, runtime, last_resort, stop)
        group.start_soon(_monitor, runtime)
        ended = await run_together([runtime], stop)
        group.cancel_scope.cancel()
    last_resort.disarm()
    for text in ended.refusals:
        log.error("%s", text)
    return ended.code


async def _monitor(runtime: Runtime) -> None:
    """Answer for this process alone, if a telemetry in code asks for it; if that fails, working is more important."""
    kinds = [type(telemetry) for telemetry in runtime.telemetry]
    if not any(map(has_monitor, kinds)):
        return
    address = next((telemetry.listen for telemetry in runtime.telemetry if telemetry.listen), None)
    monitoring, began = Monitoring(), time.monotonic()
    if address is not None:
        try:
            monitoring.open(address, kinds)
        except PythiaError as error:
            log.error("%s", error)
    watch, reporter, child = Watch(runtime.name), Reporter([runtime]), Child(1, 0, began, loaded=True)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(runtime.observation.run, name="pythia observation")
            while True:
                _show(monitoring, watch, child, reporter.report())
                await anyio.sleep(MONITOR_SECONDS)
    finally:
        monitoring.close()


def _show(monitoring: Monitoring, watch: Watch, child: Child, report: dict[str, Any]) -> None:
    now = time.monotonic()
    child.take(
        Report(1, report["ready"], report["waiting_for"], tuple(report["reasons"]), report["busy"]), now
    )
    watch.take(1, report, now)
    monitoring.take(1, 0, report)
    snapshot = watch.snapshot([child], now=now, wall=time.time(), desired=1, least=1, most=1)
    fleet = describe_fleet([child], snapshot, title=watch.title, target=1, uptime=now - child.started)
    monitoring.show({**fleet, "supervised": False})


async def _obey_signals(runtime: Runtime, last_resort: LastResort, stop: Stop, *, task_status: Any) -> None:
    heard = StopSignals()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            meaning = heard.heard(time.monotonic())
            if meaning == "stop":
                log.info("%s: draining; once more in 2 s or later skips the drain", number.name)
                stop(number.name, Exit.CLEAN)
            elif meaning == "force":
                log.warning("%s again: work under way is abandoned, to be delivered again", number.name)
                last_resort.arm(GRACE, Exit.WATCHDOG)
                runtime.force()
