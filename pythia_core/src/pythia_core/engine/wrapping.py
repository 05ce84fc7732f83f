"""What is put around a worker's handler, once, at start: middleware, and a stopwatch where telemetry asks for one."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from pythia_core.contracts.middleware import Handler, Middleware
from pythia_core.engine.stats import DURATION_BOUNDS, Stats


def compose(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """Return ``handler`` inside all of ``middleware``: the lowest phase outermost, then in the order given."""
    outermost_first = sorted(middleware, key=lambda layer: layer.phase)
    for layer in reversed(outermost_first):
        handler = layer.wrap(handler)
    return handler


def timed(handler: Handler, stats: Stats) -> Handler:
    """Return ``handler`` with its durations counted into the buckets of ``stats``."""
    clock = time.perf_counter

    async def counted(message: Any) -> Any:
        began = clock()
        try:
            return await handler(message)
        finally:
            taken = clock() - began
            stats.durations[bisect_left(DURATION_BOUNDS, taken)] += 1
            stats.duration_sum += taken

    return counted
