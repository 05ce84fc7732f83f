"""The workers under a load: processes of their own, or one in this event loop where the broker is in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson

from pythia_core.errors import ConfigError, PythiaError
from pythia_core.testing.child import is_ordered, recorded
from pythia_core.testing.recording import sends_handed_on
from pythia_core.worker import Worker

__all__ = ["LoadTestError", "here", "processes", "target_of"]

LOOK = 0.05  # seconds between two looks at the processes
READY_SECONDS = 60.0
STOP_SECONDS = 60.0  # the longest usual drain, and what comes after it
TAIL = 2000  # characters of a log that an error shows

AnyWorker = type[Worker[Any]]


class LoadTestError(PythiaError):
    """A load test could not be carried out."""


def target_of(kind: AnyWorker) -> str:
    """Return what another process finds a class by.

    Raises:
        ConfigError: if it cannot be found by anything.
    """
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None or kind.__qualname__ != kind.__name__:
        raise ConfigError(
            f"{kind.__qualname__} is defined where another process cannot import it: a load test starts processes, so "
            "the class has to stand at the top level of a file"
        )
    return f"{file}:{kind.__name__}"


@asynccontextmanager
async def here(kinds: Sequence[AnyWorker], run: str, folder: Path) -> AsyncIterator[bool]:
    """Run one worker of each kind in this event loop; yield whether all keep order."""
    runtimes = [recorded(kind(), run, folder / f"attempts-{number}") for number, kind in enumerate(kinds)]
    with sends_handed_on():
        async with anyio.create_task_group() as group:
            for runtime in runtimes:
                group.start_soon(runtime.run)
            await _until(lambda: all(runtime.health().ready for runtime in runtimes), READY_SECONDS)
            for runtime in runtimes:
                if not (health := runtime.health()).ready:
                    raise LoadTestError(f"{runtime.name} is not ready: {'; '.join(health.reasons)}")
            yield all(is_ordered(runtime, 1) for runtime in runtimes)
            for runtime in runtimes:
                runtime.stop("the load test has ended")


@asynccontextmanager
async def processes(targets: Sequence[str], run: str, folder: Path, count: int) -> AsyncIterator[bool]:
    """Run so many processes of each worker; yield, once all are ready, whether they keep order.

    Process ``n`` is one of the worker ``n // count``.

    Raises:
        LoadTestError: if a process ended by itself, did not become ready, or did not end well.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        numbers = range(len(targets) * count)
        started.extend(_start(targets[number // count], run, folder, number, count) for number in numbers)
        yield await _ready(started, folder)
        await _stopped(started, folder)
    finally:
        for process in started:
            if process.stdin:
                process.stdin.close()
            if process.poll() is None:
                process.kill()
            process.wait()


def _start(target: str, run: str, folder: Path, number: int, count: int) -> subprocess.Popen[bytes]:
    arguments = [target, run, str(folder), str(number), str(count)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with (folder / f"log-{number}").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "pythia_core.testing.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )


async def _ready(started: list[subprocess.Popen[bytes]], folder: Path) -> bool:
    files = [folder / f"ready-{slot}" for slot in range(len(started))]

    def settled() -> bool:
        _check(started, folder)
        return all(file.exists() for file in files)

    await _until(settled, READY_SECONDS)
    for slot, file in enumerate(files):
        if not file.exists():
            raise LoadTestError(f"process {slot} was not ready in {READY_SECONDS:g} s: {_tail(folder, slot)}")
    return all(orjson.loads(file.read_bytes())["ordered"] for file in files)


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so, for so long at the most; return whether it is."""
    deadline = anyio.current_time() + seconds
    while not condition():
        if anyio.current_time() > deadline:
            return False
        await anyio.sleep(LOOK)
    return True


def _check(started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    for slot, process in enumerate(started):
        if (code := process.poll()) is not None:
            raise LoadTestError(f"process {slot} ended by itself with {code}: {_tail(folder, slot)}")


async def _stopped(started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    _check(started, folder)
    for process in started:
        if process.stdin:
            process.stdin.close()
    await _until(lambda: all(process.poll() is not None for process in started), STOP_SECONDS)
    for slot, process in enumerate(started):
        if process.poll() != 0:
            raise LoadTestError(f"process {slot} did not end well ({process.poll()}): {_tail(folder, slot)}")


def _tail(folder: Path, slot: int) -> str:
    return (folder / f"log-{slot}").read_text(errors="replace")[-TAIL:].strip() or "it logged nothing"
