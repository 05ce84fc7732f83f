"""Notices an event loop that is blocked, by a handler that sleeps or computes, and says where.

It stands apart because it is a thread: a loop that is blocked cannot say so. It belongs to the process and not to the
engine, which knows no threads; it changes nothing, since nobody but the blocking code itself can end a block.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Self

import anyio
import attrs

__all__ = ["LoopGuard"]

log = logging.getLogger("pythia.worker")

BLOCKED = 5.0
"""Seconds without a turn of the loop. Heartbeats of all brokers allow more, and a garbage collection takes far less."""

LOOK = 0.5  # seconds between beats, and between looks at them


@attrs.define(eq=False)
class LoopGuard:
    """Watches the event loop of the thread it is made in, for the length of a ``with`` block.

    Args:
        told: called in the guard's thread at every look while the loop is blocked, with the state in words.
    """

    told: Callable[[str], None] | None = None
    _loop_thread: int = attrs.field(factory=threading.get_ident, init=False)
    _beat: float = attrs.field(factory=time.monotonic, init=False)
    _blocked_since: float | None = attrs.field(default=None, init=False)
    _over: threading.Event = attrs.field(factory=threading.Event, init=False)

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="pythia loop guard", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()

    async def beat(self) -> None:
        """Beat in the event loop, until cancelled."""
        while True:
            self._beat = time.monotonic()
            await anyio.sleep(LOOK)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(LOOK):
            now = time.monotonic()
            if (
                now - looked > LOOK + 1.0
            ):  # we did not run either: the process was halted, not its loop blocked
                self._beat = max(self._beat, now)
            looked = now
            self._look(now)

    def _look(self, now: float) -> None:
        silence = now - self._beat
        if silence >= BLOCKED:
            self._is_blocked(silence)
        elif self._blocked_since is not None:
            lasted, self._blocked_since = self._beat - self._blocked_since, None
            log.warning("the event loop was blocked for %.1f s and turns again", lasted)

    def _is_blocked(self, silence: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        if self._blocked_since is None:
            self._blocked_since = self._beat
            stack = "".join(traceback.format_stack(frame)).rstrip() if frame else "unknown"
            log.error(
                "the event loop has not turned for %.1f s: heartbeats and all other messages wait for this:\n%s",
                silence,
                stack,
            )
        if self.told is not None:
            self.told(f"its event loop is blocked for {silence:.0f} s by {_place(frame)}")


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "something unknown"
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
