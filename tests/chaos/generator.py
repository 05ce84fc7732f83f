"""The generator: sends messages, and knows of each whether it was confirmed; only what was confirmed is owed."""

import threading
import time
from collections import Counter
from random import Random

import attrs

from tests.chaos.broker import Sender
from tests.chaos.events import Log
from tests.chaos.messages import Message

KEYS = 50
TICK = 0.1  # seconds


@attrs.define(eq=False)
class Generator:
    """Sends at a steady rate, one message of a key at a time.

    Args:
        sender: the way to the broker.
        log: where it is written down.
        random: decides what is sent.
        rate: messages a second.
        killers: whether some kill their process.
    """

    sender: Sender
    log: Log
    random: Random
    rate: float
    killers: bool = True
    _numbers: Counter[str] = attrs.field(factory=Counter[str], init=False)

    def run(self, ended: threading.Event) -> None:
        """Go on until it is enough; what an outage held up is not made good for."""
        began = time.monotonic()
        while not ended.wait(max(0.0, began + TICK - time.monotonic())):
            began = time.monotonic()
            self._send(max(1, min(KEYS, round(self.rate * TICK))))

    def _send(self, count: int) -> None:
        batch = [self._next(f"k{number}") for number in self.random.sample(range(KEYS), count)]
        for message in batch:
            self.log.write("attempt", message.id, sum=message.sum, script=message.script)
        try:
            self.sender.send([(message.id.partition("-")[0], message.body) for message in batch])
        except OSError:
            return  # perhaps sent, perhaps not: not owed, and no phantom either
        for message in batch:
            self.log.write("ok", message.id)

    def _next(self, key: str) -> Message:
        self._numbers[key] += 1
        return Message.make(key, self._numbers[key] - 1, self.random, killers=self.killers)
