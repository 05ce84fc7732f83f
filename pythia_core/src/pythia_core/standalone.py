"""Runs a worker in the present process, without a supervisor: what ``python worker.py`` does."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

import anyio

from pythia_core import logs
from pythia_core.collector import tuned
from pythia_core.engine.health import Exit
from pythia_core.errors import ConfigError, PluginError
from pythia_core.last_resort import LastResort
from pythia_core.runtime import Runtime
from pythia_core.signals import StopSignals
from pythia_core.together import Ended, Stop, event_loop_options, run_together
from pythia_core.worker import Worker

__all__ = ["run_here"]

log = logging.getLogger("pythia.worker")

GRACE = 10.0  # seconds past the drain timeout, for shutdown() and for closing connections


def run_here(worker: Worker[Any]) -> int:
    """Run until SIGTERM or SIGINT and drain; return the exit code."""
    logs.configure()  # for what goes wrong before it is known how to log
    try:
        runtime = Runtime(worker)
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
        ended = await run_together([runtime], stop)
        group.cancel_scope.cancel()
    last_resort.disarm()
    for text in ended.refusals:
        log.error("%s", text)
    return ended.code


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
