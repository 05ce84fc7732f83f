"""What all processes of a worker share on a Redis server: the tokens of a rate limit, and the identities of what is done.

They stand apart from streams, with which they share nothing but the way to the server: a worker that reads from Kafka
may well keep these here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pythia_core import ConfigError, IdempotencyStore, NotOpenError, Resource, Seen, TokenBucket
from pythia_redis.options import RedisOptions

if TYPE_CHECKING:
    from pythia_redis.connection import Wire

__all__ = ["RedisIdempotencyStore", "RedisTokenBucket"]


@attrs.define(eq=False)
class Shared(RedisOptions, Resource):
    """Something under a name on a server, with a connection that is made at the first question."""

    name: str = attrs.field(kw_only=False)
    _wire: Wire | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name is empty; it says who shares it, such as the consumer group")

    @property
    def broker_connections(self) -> int:
        """One."""
        return 1

    async def open(self) -> None:
        """Be ready to connect, which happens at the first question: a server that is down does not delay the start."""
        from pythia_redis.connection import Wire

        self._wire = Wire(self.address(), name=f"{self.name}/shared")

    async def aclose(self) -> None:
        """Disconnect."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    def _opened(self) -> Wire:
        if self._wire is None:
            raise NotOpenError(
                f"{type(self).__name__}({self.name!r}) is not open: use `async with`, or await open() first"
            )
        return self._wire


@attrs.define(eq=False)
class RedisTokenBucket(Shared, TokenBucket):
    """The tokens of a :class:`~pythia_core.middleware.rate.RateLimit` that all processes keep together.

    Args:
        name: of the limit; whoever says the same one shares it, and should say the same rate.
        prefix: of the key on the server.
        url: see :class:`~pythia_redis.options.RedisOptions`, like everything else.

    Example:
        ::

            config = WorkerConfig(middleware=[RateLimit(rate=100, bucket=RedisTokenBucket("payment-api"))])
    """

    prefix: str = "pythia:rate:"

    async def take(self, rate: float, burst: int, most: int) -> tuple[int, float]:
        """Take tokens by the server's clock; see :meth:`pythia_core.TokenBucket.take`.

        Raises:
            ConnectionLost: if the server gives no answer; some tokens may be gone then, which only slows down.
        """
        from pythia_redis.group import value
        from pythia_redis.scripts import TOKENS

        call = (repr(rate), burst, most)
        taken, wait = value(*await self._opened().run(TOKENS, self.prefix + self.name, call))
        return taken, wait / 1_000_000


@attrs.define(eq=False)
class RedisIdempotencyStore(Shared, IdempotencyStore):
    """Remembers for :class:`~pythia_core.middleware.deduplicate.Deduplicate` what has been done, one key for each.

    Each takes about 100 bytes of the server's memory for as long as it is kept. A server that evicts keys forgets.

    Args:
        name: whose work it is: the consumer group. Two workers that do different things with the same messages must
            not share it, or each would skip what the other has done.
        prefix: of the keys on the server.
        url: see :class:`~pythia_redis.options.RedisOptions`, like everything else.
    """

    prefix: str = "pythia:done:"

    async def begin(self, identity: str, owner: str, lease: float) -> tuple[Seen, float]:
        """See :meth:`pythia_core.IdempotencyStore.begin`.

        Raises:
            ConnectionLost: if the server gives no answer; the identity may be ours then, until the lease ends.
        """
        from pythia_redis.group import value
        from pythia_redis.scripts import BEGIN

        call = (owner, _milliseconds(lease))
        known, left = value(*await self._opened().run(BEGIN, self._key(identity), call))
        return Seen(known.decode() or "never"), max(left, 0) / 1000

    async def finish(self, identity: str, keep: float) -> None:
        """See :meth:`pythia_core.IdempotencyStore.finish`."""
        await self._opened().call("SET", self._key(identity), "done", "PX", _milliseconds(keep))

    async def forget(self, identity: str, owner: str) -> None:
        """See :meth:`pythia_core.IdempotencyStore.forget`."""
        from pythia_redis.group import value
        from pythia_redis.scripts import FORGET

        value(*await self._opened().run(FORGET, self._key(identity), (owner,)))

    def _key(self, identity: str) -> str:
        return f"{self.prefix}{self.name}:{identity}"


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
