"""The observer: asks the broker five times a second what is settled and what is dead, and writes that down."""

import threading
import time

import attrs

from tests.chaos.broker import Asker
from tests.chaos.events import Log
from tests.chaos.messages import Message

LOOK_EVERY = 0.2  # seconds


@attrs.define(eq=False)
class Observer:
    """Looks on.

    Args:
        asker: the way to the broker.
        log: where it is written down.
    """

    asker: Asker
    log: Log
    at_rest: bool = attrs.field(default=False, init=False)
    _settled: list[bytes] = attrs.field(factory=list[bytes], init=False)  # seen, and not written down yet

    def run(self, over: threading.Event) -> None:
        """Look until it is over, and once more."""
        while not over.wait(LOOK_EVERY):
            try:
                self._look()
            except OSError:
                self.at_rest = False  # an outage: what became of messages is seen later
        self._look()
        waiting, pending = self.asker.left()
        self.log.write("left", waiting=waiting, pending=pending)

    def _look(self) -> None:
        began = time.monotonic()
        left = self.asker.left()
        self._settled += self.asker.settled()
        # After what is settled, since a dead letter has to be there before its message is settled; and written down
        # before it, for the same reason.
        for letter in self.asker.dead():
            message = Message.read(letter.body)
            self.log.write("dead", message.id, sum=message.sum, attempts=letter.attempts)
        if self._settled:
            self.log.write("settled", ids=[Message.read(body).id for body in self._settled])
            self._settled = []
        # Written down after the dead letters that were there when it was counted.
        self.log.write("counted", began=began, left=sum(left))
        self.at_rest = left == (0, 0)
