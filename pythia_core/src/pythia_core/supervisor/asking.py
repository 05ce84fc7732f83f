"""The spare process that asks workers whether they want more processes: ``python -m pythia_core.supervisor.asking``.

It makes the workers and opens their connections, but subscribes to nothing, so a question that blocks its event loop (a
``psutil.cpu_percent(interval=1)``) keeps no message waiting. It holds nothing, so any order ends it at once.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from pythia_core.by_worker import opinions_of
from pythia_core.engine.health import Exit
from pythia_core.errors import PythiaError
from pythia_core.loader import explain
from pythia_core.runtime import Runtime
from pythia_core.supervisor.link import Link
from pythia_core.supervisor.serving import prepare
from pythia_core.worker import Worker

__all__ = ["ANSWER_SECONDS", "ask"]

ANSWER_SECONDS = 10.0
LEAST_INTERVAL = 0.1  # seconds between two questions, whatever a worker says

log = logging.getLogger("pythia.scaling")


def main(arguments: list[str]) -> int:
    """Ask until told to end."""
    link = Link(int(arguments[0]))
    link.catch_signals()
    options = link.read_options()
    link.die_with(options.supervisor)
    link.listen()  # nothing is ever bound to it: every order ends this process
    try:
        runtimes = [runtime for runtime in prepare(options, "scaling") if opinions_of(type(runtime.worker))]
    except (Exception, SystemExit) as error:
        link.say("fault", text=explain(error, options.target), hopeless=not isinstance(error, OSError))
        return _ended(link)
    if not runtimes:
        text = f"no worker of {options.target} has should_scale_up or should_scale_down, which --policy worker asks"
        link.say("fault", text=text, hopeless=True)
        return _ended(link)
    anyio.run(_run, runtimes, link, backend="asyncio")
    return Exit.CLEAN


def _ended(link: Link) -> int:
    link.flush()
    return Exit.ERROR


async def _run(runtimes: list[Runtime], link: Link) -> None:
    async with anyio.create_task_group() as group:
        for runtime in runtimes:
            group.start_soon(_ask_for_ever, runtime, link, name=f"pythia asks {runtime.name}")


async def _ask_for_ever(runtime: Runtime, link: Link) -> None:
    async with runtime.opened():
        while True:
            if (change := await ask(runtime.worker)) is not None:
                link.say("opinion", worker=runtime.name, change=change)
            await anyio.sleep(max(LEAST_INTERVAL, float(runtime.worker.scale_check_interval)))


async def ask(worker: Worker[Any]) -> int | None:
    """Return 1 if a worker wants one process more, -1 if one less would do, 0 if neither, None if it does not answer."""
    try:
        if await _answer(worker.should_scale_up):
            return 1
        return -1 if await _answer(worker.should_scale_down) else 0
    except Exception as error:
        told = (
            str(error)
            if isinstance(error, PythiaError | TimeoutError)
            else f"{type(error).__name__}: {error}"
        )
        log.warning(
            "%s was asked whether to scale and has no answer, so nothing changes: %s",
            type(worker).__name__,
            told,
        )
        return None


async def _answer(question: Callable[[], Awaitable[bool] | bool]) -> bool:
    """Return the answer.

    Raises:
        TimeoutError: if it came too late, also from one that blocked.
    """
    began = time.monotonic()
    with anyio.move_on_after(ANSWER_SECONDS):
        given = question()
        answer = await given if inspect.isawaitable(given) else given
        if time.monotonic() - began < ANSWER_SECONDS:
            return bool(answer)
    raise TimeoutError(f"{question.__name__} took longer than {ANSWER_SECONDS:g} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
