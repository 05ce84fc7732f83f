"""Redis for Pythia: streams as a source and a sink, an admin for chores, and what processes share on a server."""

from pythia_redis.admin import RedisStreamsAdmin
from pythia_redis.producer import RedisStreamsProducer
from pythia_redis.sharing import RedisIdempotencyStore, RedisTokenBucket
from pythia_redis.source import RedisStreamsConsumer

__all__ = [
    "RedisIdempotencyStore",
    "RedisStreamsAdmin",
    "RedisStreamsConsumer",
    "RedisStreamsProducer",
    "RedisTokenBucket",
]
