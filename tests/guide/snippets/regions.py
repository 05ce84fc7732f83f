"""Multi-Region Setup: two workers, each on the cluster of its own region."""

from notebook import note

from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer


# US East worker
class USEastWorker(Worker):
    source = KafkaConsumer(
        topic="orders-us-east",
        bootstrap_servers="kafka-us-east:9092"
    )

    async def process(self, message):
        note("us-east", message.body)


# EU West worker
class EUWestWorker(Worker):
    source = KafkaConsumer(
        topic="orders-eu-west",
        bootstrap_servers="kafka-eu-west:9092"
    )

    async def process(self, message):
        note("eu-west", message.body)
