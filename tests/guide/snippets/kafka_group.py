"""Consumer Groups (Kafka): two workers of one group, each with its part of the partitions."""

from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer

# Worker instance 1
worker1 = Worker()
worker1.source = KafkaConsumer(
    topic="orders",
    consumer_group="order-processors",  # Same group
    partition_assignment_strategy="range"
)

# Worker instance 2
worker2 = Worker()
worker2.source = KafkaConsumer(
    topic="orders",
    consumer_group="order-processors",  # Same group
    partition_assignment_strategy="range"
)
