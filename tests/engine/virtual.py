"""An event loop whose time is virtual, for models that run whole engines: hours take no time, and each run is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

TURN = 1e-6  # seconds that a turn of the loop takes, so that what is nearly due is so at last


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes as soon as nothing is left to be done before."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._look = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._skip  # type: ignore[attr-defined]

    def time(self) -> float:
        """Return the virtual time."""
        return self._now

    def _skip(self, timeout: float | None = None) -> Any:
        self._now += max(timeout or 0.0, TURN)
        return self._look(0)

    def finish(self, what: Awaitable[object]) -> None:
        """Run until something is done, a sleep for instance."""
        self.run_until_complete(_wrapped(what))

    def end(self, seconds: float) -> None:
        """Cancel what is left, give it so much virtual time to end, and close the loop."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.finish(asyncio.sleep(seconds))
        self.close()


async def _wrapped(what: Awaitable[object]) -> None:
    await what
