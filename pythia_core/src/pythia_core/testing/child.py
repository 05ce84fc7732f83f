"""One process of a load test: a worker as ``python worker.py`` runs it, with each attempt written down.

It lives as long as its standard input stays open, so that none outlives the test.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import orjson

from pythia_core import logs
from pythia_core.engine.engine import effective_order
from pythia_core.loader import load_workers
from pythia_core.runtime import Runtime
from pythia_core.standalone import run_here
from pythia_core.testing.recording import Recorder, sends_handed_on
from pythia_core.worker import Worker

__all__ = ["is_ordered", "recorded"]

LOOK = 0.05  # seconds between two looks whether the worker is ready
PARTITIONS_SECONDS = (
    10.0  # for the group to share its partitions; with more workers than those some never have any
)


def recorded(worker: Worker[Any], run: str, path: Path, slot: int = 0) -> Runtime:
    """Return a run of a worker that writes down each attempt."""
    runtime = Runtime(worker, slot=slot)
    layers = (Recorder(run, path), *runtime.resolved.middleware)
    runtime.resolved = attrs.evolve(runtime.resolved, middleware=layers)
    return runtime


def is_ordered(runtime: Runtime, processes: int) -> bool:
    """Tell whether messages of a key are promised in order, over so many processes."""
    if effective_order(runtime.resolved.settings, runtime.source) == "none":
        return False
    return processes == 1 or runtime.source.capabilities.order_scope == "partition"


def main(target: str, run: str, folder: str, number: int, processes: int) -> int:
    """Run the worker until standard input ends; write a file once it is ready."""

    def make(worker: Worker[Any]) -> Runtime:
        runtime = recorded(worker, run, Path(folder, f"attempts-{number}"), number % processes)
        ready = Path(folder, f"ready-{number}")
        said = orjson.dumps({"ordered": is_ordered(runtime, processes)})
        threading.Thread(target=_watch, args=(runtime, ready, said), daemon=True).start()
        return runtime

    logs.configure("warning")
    (kind,) = load_workers(target)
    with sends_handed_on():
        return run_here(kind(), make)


def _watch(runtime: Runtime, ready: Path, said: bytes) -> None:
    """Say when the worker has its share, and stop it when nobody is at the other end of standard input."""
    began = time.monotonic()
    while not _has_its_share(runtime, began):
        if _ended(LOOK):
            break
    else:
        ready.with_suffix(".new").write_bytes(said)
        ready.with_suffix(".new").rename(ready)
        _ended(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _has_its_share(runtime: Runtime, began: float) -> bool:
    """Tell whether the worker is ready, and has partitions where a group shares them: else the first one did all."""
    if not runtime.health().ready:
        return False
    late = time.monotonic() - began > PARTITIONS_SECONDS
    return late or not runtime.source.capabilities.rebalances or runtime.partitions() > 0


def _ended(wait: float | None) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], wait)
    return bool(readable)


if __name__ == "__main__":
    target, run, folder, number, processes = sys.argv[1:]
    raise SystemExit(main(target, run, folder, int(number), int(processes)))
