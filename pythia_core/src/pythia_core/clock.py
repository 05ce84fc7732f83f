"""The one clock: monotonic seconds of the running event loop, as a function cheap enough for the hot path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

Clock = Callable[[], float]


def loop_clock() -> Clock:
    """Return the running loop's own clock, so that virtual time in tests is the engine's time too.

    It reads the same seconds as ``anyio.current_time()``, which looks up its backend at every call and costs about
    1 microsecond; asyncio's own default is ``time.monotonic``, which costs 0.04.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.current_time
    standard = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if standard else loop.time
