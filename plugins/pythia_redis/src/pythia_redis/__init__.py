"""Redis Streams for Pythia: a source, a sink, and an admin for chores."""

from pythia_redis.admin import RedisStreamsAdmin
from pythia_redis.producer import RedisStreamsProducer
from pythia_redis.source import RedisStreamsConsumer

__all__ = ["RedisStreamsAdmin", "RedisStreamsConsumer", "RedisStreamsProducer"]
