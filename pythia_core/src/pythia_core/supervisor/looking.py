"""The process that asks how much is left, for a fleet that is not here: ``python -m pythia_core.supervisor.looking``.

It makes the workers, so that their sources are resolved as in every process that runs them, but opens nothing of theirs and
subscribes to nothing: it has one inspector for each source. It holds nothing, so any order ends it at once.
"""

from __future__ import annotations

import sys
from typing import Any

import anyio

from pythia_core.engine.health import Exit
from pythia_core.loader import explain
from pythia_core.runtime import Runtime
from pythia_core.supervisor.link import Link
from pythia_core.supervisor.serving import prepare

__all__: list[str] = []


def main(arguments: list[str]) -> int:
    """Look until told to end. The arguments are the link's descriptor, the target and seconds between two looks."""
    link = Link(int(arguments[0]))
    link.catch_signals()
    options = link.read_options()
    link.die_with(options.supervisor)
    link.listen()  # nothing is ever bound to it: every order ends this process
    try:
        runtimes = prepare(options, "looking")
    except (Exception, SystemExit) as error:
        link.say("fault", text=explain(error, options.target), hopeless=not isinstance(error, OSError))
        link.flush()
        return Exit.ERROR
    anyio.run(_run, runtimes, link, float(arguments[2]), backend="asyncio")
    return Exit.CLEAN


async def _run(runtimes: list[Runtime], link: Link, interval: float) -> None:
    link.say("workers", workers=[_described(runtime) for runtime in runtimes])
    async with anyio.create_task_group() as group:
        for runtime in runtimes:
            runtime.observation.interval = interval
            group.start_soon(runtime.observation.run, name=f"pythia observes {runtime.source.name}")
            group.start_soon(_tell, runtime, link, interval, name=f"pythia tells of {runtime.source.name}")


def _described(runtime: Runtime) -> dict[str, Any]:
    return {
        "name": runtime.name,
        "system": runtime.observation.system,
        "destination": runtime.source.name,
        "group": runtime.source.group,
        "drain_timeout": runtime.resolved.settings.drain_timeout,
    }


async def _tell(runtime: Runtime, link: Link, interval: float) -> None:
    """Say again and again what was seen last, with its age: one that grows old says that nobody answers."""
    while True:
        said, errors = runtime.observation.report(), runtime.observation.errors
        link.say("queue", worker=runtime.name, queue=said, errors=errors)
        await anyio.sleep(min(interval, 0.25))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
