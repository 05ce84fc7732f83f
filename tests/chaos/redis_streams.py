"""Redis for chaos: a server that syncs every write, asked by the bare client."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pythia_redis import RedisStreamsConsumer
from tests.chaos.broker import Asker, Broker, DeadLetter, Sender
from tests.servers.redis import RedisServer

STREAM, GROUP = "chaos", "workers"
LEASE = 3.0  # seconds; short, so that zombies and slow handlers outlive it
PATIENCE = 2.0  # seconds


class RedisBroker(Broker):
    """Redis Streams."""

    server: RedisServer

    def __init__(self) -> None:
        self.server = RedisServer(durable=True)

    @property
    def environ(self) -> Mapping[str, str]:
        """The address."""
        return {"REDIS_URL": self.server.url}

    @classmethod
    def source(cls) -> RedisStreamsConsumer:
        """A consumer with a short lease."""
        return RedisStreamsConsumer(STREAM, consumer_group=GROUP, lease_seconds=LEASE)

    def sender(self) -> Sender:
        """By XADD."""
        return RedisSender(connect(self.server))

    def asker(self) -> Asker:
        """By XPENDING and XINFO."""
        return RedisAsker(connect(self.server))


def connect(server: RedisServer) -> Any:
    """Return a client that tries nothing twice: a second XADD would be a second entry."""
    return redis.Redis(port=server.port, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0))


class Unreachable(OSError):
    """The server cannot be asked now."""


class RedisSender(Sender):
    """See :class:`Sender`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Add entries."""
        pipeline = self._client.pipeline(transaction=False)
        for key, body in messages:
            pipeline.xadd(STREAM, {"body": body, "key": key})
        try:
            pipeline.execute()
        except redis.RedisError as error:
            raise Unreachable(str(error)) from error


class RedisAsker(Asker):
    """See :class:`Asker`. What was delivered and is no longer pending is settled."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._delivered = self._letters = b"-"
        self._open: dict[bytes, bytes] = {}  # delivered and not settled

    def settled(self) -> list[bytes]:
        """Look at the group, in one transaction."""
        try:
            return self._settled()
        except redis.RedisError as error:
            raise Unreachable(str(error)) from error

    def _settled(self) -> list[bytes]:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xinfo_groups(STREAM)
        pipeline.xpending_range(STREAM, GROUP, "-", "+", 1_000_000)
        groups, rows = pipeline.execute()
        last = groups[0]["last-delivered-id"]
        for position, fields in self._client.xrange(STREAM, self._delivered, last):
            self._open[position] = fields[b"body"]
        self._delivered = b"(" + last
        pending = {row["message_id"] for row in rows}
        return [self._open.pop(position) for position in list(self._open.keys() - pending)]

    def dead(self) -> list[DeadLetter]:
        """Read on in the stream of dead letters."""
        try:
            entries = self._client.xrange(f"{STREAM}:dlq", self._letters)
        except redis.RedisError as error:
            raise Unreachable(str(error)) from error
        if entries:
            self._letters = b"(" + entries[-1][0]
        return [DeadLetter(fields[b"body"], int(fields[b"h:pythia-attempts"])) for _, fields in entries]

    def left(self) -> tuple[int, int]:
        """Count."""
        try:
            group = self._client.xinfo_groups(STREAM)[0]
            after = b"(" + group["last-delivered-id"]
            return len(self._client.xrange(STREAM, after)), group["pending"]
        except redis.RedisError as error:
            raise Unreachable(str(error)) from error
