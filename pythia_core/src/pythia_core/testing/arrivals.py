"""Sends messages at the times that were meant for them, however slowly the answers come: open-loop arrivals.

A load that waits for the system measures how fast the system lets itself be loaded, and hides its worst moments
("coordinated omission"). Here each message has its time, which it carries with it. Whatever is due goes out in one write,
so that messages of a key stay in their order; if a write is slow, the next one is larger.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import anyio
import attrs

from pythia_core.contracts import Output, Sink
from pythia_core.testing.recording import HEADER, tag

__all__ = ["Arrivals"]

log = logging.getLogger("pythia.testing")

TICK = 0.005  # seconds between two looks at what is due: the error of a sending time
LARGEST_WRITE = 500


@attrs.define(eq=False)
class Arrivals:
    """One run's messages.

    Args:
        run: its name.
        rate: messages a second.
        total: how many in all.
        keys: message ``n`` has the key ``n % keys``.
        body: makes the body of message ``n``.
    """

    run: str
    rate: float
    total: int
    keys: int
    body: Callable[[int], Any]
    began: float = attrs.field(default=0.0, init=False)
    offered: int = attrs.field(default=0, init=False)
    confirmed: set[int] = attrs.field(factory=set[int], init=False)

    async def send(self, sink: Sink) -> None:
        """Send all of them."""
        self.began = time.monotonic()
        while self.offered < self.total:
            due = min(self.total, math.floor((time.monotonic() - self.began) * self.rate) + 1)
            if due > self.offered:
                await self._write(sink, range(self.offered, min(due, self.offered + LARGEST_WRITE)))
            else:
                await anyio.sleep(TICK)

    async def _write(self, sink: Sink, numbers: range) -> None:
        outputs = [self._output(sink, number) for number in numbers]
        self.offered = numbers.stop
        try:
            result = await sink.write(outputs)
        except Exception:
            log.warning("messages %d to %d may not have been sent", numbers[0], numbers[-1], exc_info=True)
            return
        for index, number in enumerate(numbers):
            if (refusal := result.error(index)) is None:
                self.confirmed.add(number)
            else:
                log.warning("message %d was not sent: %s", number, refusal)

    def _output(self, sink: Sink, number: int) -> Output:
        intended = self.began + number / self.rate
        return Output(
            sink,
            self.body(number),
            key=f"key-{number % self.keys}",
            headers={HEADER: tag(self.run, number, intended)},
        )
