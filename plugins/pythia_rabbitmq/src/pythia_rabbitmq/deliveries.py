"""What a channel delivers, in its order and without a task for each message, which is how aiormq does it by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import aiormq
from aiormq import spec

from pythia_rabbitmq.message import RabbitMQMessage


class Deliveries:
    """Collects what a channel delivers; the prefetch bounds how much that is.

    Args:
        channel: takes it from there.
        came: called whenever something has come.
    """

    def __init__(self, channel: aiormq.Channel, came: Callable[[], None]) -> None:
        self._channel: Any = channel  # Any: of its methods one is replaced
        self._came = came
        self._waiting: deque[RabbitMQMessage] = deque()
        setattr(channel, "_on_deliver_frame", self._deliver)  # noqa: B010 - its type forbids it

    def __len__(self) -> int:
        return len(self._waiting)

    async def _deliver(self, frame: spec.Basic.Deliver) -> None:
        channel = self._channel
        header = await channel._get_frame()
        size = header.body_size
        body = (await channel._get_frame()).value if size else b""
        if len(body) < size:
            parts = [body]
            rest = size - len(body)
            while rest > 0:
                parts.append((await channel._get_frame()).value)
                rest -= len(parts[-1])
            body = b"".join(parts)
        self._waiting.append(RabbitMQMessage(frame, header.properties, body))
        self._came()

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
