"""Redis Streams Consumer Groups: entries are shared out among consumers, each with a name of its own."""

from notebook import note

from pythia import Worker

from pythia.brokers.redis import RedisStreamsConsumer


class StreamWorker(Worker):
    source = RedisStreamsConsumer(
        stream="events",
        consumer_group="processors",
        consumer_name="worker-1",  # Unique name per instance
    )

    async def process(self, message):
        note("event", message.body)
