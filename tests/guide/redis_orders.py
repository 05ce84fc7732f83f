"""The guide's order processor on Redis, so that its load test runs on both brokers."""

from typing import Any

from pythia import Message, Worker
from pythia.brokers.redis import RedisStreamsConsumer


class OrderProcessor(Worker[Any]):
    source = RedisStreamsConsumer(stream="orders", consumer_group="order-processors")

    async def process(self, message: Message[Any]) -> None:
        await self.process_order(message.body)

    async def process_order(self, order: Any) -> None:
        """Do nothing."""
