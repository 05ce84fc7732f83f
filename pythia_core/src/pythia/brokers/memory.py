"""The broker in memory, for development and tests: it lives as long as the process does."""

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer

__all__ = ["MemoryBroker", "MemoryConsumer", "MemoryProducer"]
