"""Apache Kafka for Pythia: a source, a sink, and an admin for questions and chores."""

from pythia_kafka.admin import KafkaAdmin
from pythia_kafka.producer import KafkaProducer
from pythia_kafka.source import KafkaConsumer

__all__ = ["KafkaAdmin", "KafkaConsumer", "KafkaProducer"]
