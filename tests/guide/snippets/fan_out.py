"""Fan-Out Pattern: one topic's events go to a topic for each type."""

from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer, KafkaProducer


class FanOutWorker(Worker):
    source = KafkaConsumer(topic="incoming")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Multiple output topics for scaling
        self.order_producer = KafkaProducer(topic="orders")
        self.inventory_producer = KafkaProducer(topic="inventory")
        self.billing_producer = KafkaProducer(topic="billing")

    async def process(self, message):
        event = message.body
        # Fan out to multiple specialized workers
        if event["type"] == "order":
            await self.order_producer.send(event)
        elif event["type"] == "inventory":
            await self.inventory_producer.send(event)
        elif event["type"] == "billing":
            await self.billing_producer.send(event)
