"""How middleware waits for a server of its own that is down: said once, asked again at growing intervals.

Waiting is the one outcome that costs nothing: a message that failed instead would use up its attempts and end as a dead
letter for an outage that is none of its fault.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import attrs

from pythia_core.backoff import full_jitter

__all__ = ["Reach"]

log = logging.getLogger("pythia.middleware")

BASE, FACTOR, CAP = 0.1, 2.0, 2.0  # seconds between attempts

Answer = TypeVar("Answer")


@attrs.define(eq=False)
class Reach:
    """Whether something can be reached, as the last question showed.

    Args:
        what: names it in logs: ``the idempotency store``.
        seconds: that one question may take.
    """

    what: str
    seconds: float = 5.0
    down: bool = False

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer, or raise what went wrong, an Exception, within :attr:`seconds`."""
        try:
            with anyio.fail_after(self.seconds):
                answer = await question()
        except Exception as error:
            if not self.down:
                self.down = True
                log.warning("%s cannot be reached: %s", self.what, str(error) or type(error).__name__)
            raise
        if self.down:
            self.down = False
            log.info("%s can be reached again", self.what)
        return answer

    async def insist(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer, however long that takes."""
        failures = 0
        while True:
            try:
                return await self.ask(question)
            except Exception:
                failures += 1
            await anyio.sleep(full_jitter(failures, BASE, FACTOR, CAP, random.random))
