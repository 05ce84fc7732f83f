"""Pipeline Pattern: three stages, each the source of the next."""

from notebook import note

from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer, KafkaProducer


# Stage 1: Data ingestion
class DataIngestionWorker(Worker):
    source = KafkaConsumer(topic="raw-data")
    sink = KafkaProducer(topic="validated-data")

    async def process(self, message):
        validated = await self.validate_data(message.body)
        await self.sink.send(validated)

    async def validate_data(self, data):
        return {**data, "valid": data["celsius"] < 100}


# Stage 2: Data processing
class DataProcessingWorker(Worker):
    source = KafkaConsumer(topic="validated-data")
    sink = KafkaProducer(topic="processed-data")

    async def process(self, message):
        processed = await self.process_data(message.body)
        await self.sink.send(processed)

    async def process_data(self, data):
        return {**data, "fahrenheit": data["celsius"] * 9 / 5 + 32}


# Stage 3: Data storage
class DataStorageWorker(Worker):
    source = KafkaConsumer(topic="processed-data")

    async def process(self, message):
        await self.store_data(message.body)

    async def store_data(self, data):
        note("stored", data)
