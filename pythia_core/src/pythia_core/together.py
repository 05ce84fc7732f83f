"""Runs several workers in one event loop as one: they start together, and the end of one is the end of all."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence

import anyio
import attrs

from pythia_core.blocked import LoopGuard
from pythia_core.engine.health import Exit
from pythia_core.errors import ConfigError, PluginError
from pythia_core.runtime import Runtime

__all__ = ["Ended", "Stop", "event_loop_options", "run_together"]

log = logging.getLogger("pythia.worker")

Stop = Callable[[str, Exit], None]
"""Stops all workers of a process for a reason, with an exit code, and sees to it that the process ends in time."""


@attrs.define(eq=False)
class Ended:
    """How it ended.

    Args:
        code: the gravest exit code of all.
        refusals: errors of configuration that showed only while starting, one text each; others are in the log.
    """

    code: Exit = Exit.CLEAN
    refusals: list[str] = attrs.field(factory=list)

    def took(self, code: Exit) -> None:
        """Keep the gravest: an error before the watchdog's, that before a recycle."""
        grave = (Exit.CLEAN, Exit.RECYCLE, Exit.WATCHDOG, Exit.ERROR)
        self.code = max(self.code, code, key=grave.index)


async def run_together(
    runtimes: Sequence[Runtime], stop: Stop, blocked: Callable[[str], None] | None = None
) -> Ended:
    """Run workers until one of them ends or gives up; then ``stop`` is called, and this returns when all have ended.

    Args:
        runtimes: the workers.
        stop: stops all of them.
        blocked: called in another thread, twice a second, while the event loop is blocked, with the state in words.
    """
    ended = Ended()
    running = set(runtimes)
    async with anyio.create_task_group() as watching:
        with LoopGuard(blocked) as guard:
            watching.start_soon(guard.beat, name="pythia beat")
            async with anyio.create_task_group() as group:
                for runtime in runtimes:
                    runtime.give_up = stop
                    group.start_soon(_run, runtime, running, stop, ended, name=f"pythia {runtime.name}")
            watching.cancel_scope.cancel()
    return ended


async def _run(runtime: Runtime, running: set[Runtime], stop: Stop, ended: Ended) -> None:
    try:
        ended.took(await runtime.run())
    except (ConfigError, PluginError) as error:
        ended.took(Exit.ERROR)
        ended.refusals.append(f"{runtime.name}: {error}")
    except Exception:
        ended.took(Exit.ERROR)
        log.exception("%s ended by an error", runtime.name)
    running.discard(runtime)
    if running:
        stop(f"{runtime.name} ended", Exit.CLEAN)


def event_loop_options(runtimes: Sequence[Runtime]) -> dict[str, bool]:
    """Return what ``anyio.run`` takes as ``backend_options``.

    Raises:
        ConfigError: if uvloop is asked for and not installed.
    """
    wanted = any(runtime.resolved.uvloop for runtime in runtimes)
    if wanted and importlib.util.find_spec("uvloop") is None:
        origin = next(runtime.resolved.origin["uvloop"] for runtime in runtimes if runtime.resolved.uvloop)
        raise ConfigError(f"uvloop is asked for ({origin}) and not installed: pip install uvloop")
    return {"use_uvloop": wanted}
