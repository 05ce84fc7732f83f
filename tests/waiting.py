"""Wait for a condition with a deadline: what a test does instead of sleeping and hoping."""

import os
import time
from collections.abc import Callable

import anyio

INTERVAL = 0.01
"""Seconds between two looks: short beside a broker's start (0.1 s and more), long beside a look."""

PATIENCE = float(os.environ.get("TEST_PATIENCE", "30"))
"""Seconds to wait for what comes in a moment on a quiet machine. Whoever wants to see tests fail has less."""


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    """Return once condition() is true; raise TimeoutError, saying what was awaited, after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds} s in vain until {what}.")
        time.sleep(INTERVAL)


async def eventually(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    """Do the same without blocking the event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds} s in vain until {what}.")
        await anyio.sleep(INTERVAL)
