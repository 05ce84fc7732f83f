"""What a channel has delivered and nobody has fetched, in its order; the prefetch bounds how much that is."""

from __future__ import annotations

from collections import deque
from itertools import islice

from pythia_rabbitmq.message import RabbitMQMessage


class Deliveries:
    """Collects what is delivered."""

    def __init__(self) -> None:
        self._waiting: deque[RabbitMQMessage] = deque()
        self.add = self._waiting.append

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, limit: int, max_bytes: int) -> list[RabbitMQMessage]:
        """Return the next messages; one at least, however large."""
        waiting = self._waiting
        count = size = 0
        for message in islice(waiting, limit):
            size += message.size
            if size > max_bytes and count:
                break
            count += 1
        return [waiting.popleft() for _ in range(count)]

    def put_back(self, messages: list[RabbitMQMessage]) -> None:
        """Put messages that were taken before those that have come since."""
        self._waiting.extendleft(reversed(messages))
