"""RabbitMQ for Pythia: a source, a sink, and an admin for questions and chores."""

from pythia_rabbitmq.admin import RabbitMQAdmin
from pythia_rabbitmq.producer import RabbitMQProducer
from pythia_rabbitmq.source import RabbitMQConsumer

__all__ = ["RabbitMQAdmin", "RabbitMQConsumer", "RabbitMQProducer"]
