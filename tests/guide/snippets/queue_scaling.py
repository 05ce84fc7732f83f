"""Queue-Based Scaling: a worker that asks how far its group is behind."""

from pythia import Worker

from pythia.brokers.kafka import KafkaAdmin


class QueueBasedScaling(Worker):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.admin = KafkaAdmin()
        self.lag_threshold = 1000

    async def check_consumer_lag(self):
        lag = await self.admin.get_consumer_lag("order-processors", "orders")
        return lag > self.lag_threshold
