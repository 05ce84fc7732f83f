"""Queue Distribution (RabbitMQ): several workers on one queue."""

import anyio
from notebook import note

from pythia import Worker

from pythia.brokers.rabbitmq import RabbitMQConsumer


# Multiple workers consuming from same queue
class LoadBalancedWorker(Worker):
    source = RabbitMQConsumer(
        queue="tasks",
        prefetch_count=10,  # Process 10 messages at once
        auto_ack=False,  # Manual acknowledgment
    )

    async def process(self, message):
        await anyio.sleep(0.01)
        note("task", [id(self), message.body])
