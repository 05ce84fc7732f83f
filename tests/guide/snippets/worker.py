"""Multiple Worker Processes: a file that is started several times."""

from notebook import note

# worker.py
from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer


class OrderProcessor(Worker):
    source = KafkaConsumer(
        topic="orders",
        consumer_group="order-processors",  # Scale with multiple consumers
    )

    async def process(self, message):
        await self.process_order(message.body)

    async def process_order(self, order):
        note("order", order)


if __name__ == "__main__":
    OrderProcessor().run()
