"""Runs several workers in one event loop as one: they start together, and the end of one is the end of all."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence

import anyio
import attrs

from pythia_core.engine.health import Exit
from pythia_core.errors import ConfigError, PluginError
from pythia_core.runtime import Runtime

__all__ = ["Ended", "event_loop_options", "run_together"]

log = logging.getLogger("pythia.worker")


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


async def run_together(runtimes: Sequence[Runtime]) -> Ended:
    """Run workers until one of them ends; then stop the others, and return when all have ended."""
    ended = Ended()
    async with anyio.create_task_group() as group:
        for runtime in runtimes:
            group.start_soon(_run, runtime, runtimes, ended, name=f"pythia {runtime.name}")
    return ended


async def _run(runtime: Runtime, all_of_them: Sequence[Runtime], ended: Ended) -> None:
    try:
        ended.took(await runtime.run())
    except (ConfigError, PluginError) as error:
        ended.took(Exit.ERROR)
        ended.refusals.append(f"{runtime.name}: {error}")
    except Exception:
        ended.took(Exit.ERROR)
        log.exception("%s ended by an error", runtime.name)
    for other in all_of_them:
        other.stop(f"{runtime.name} ended")


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
