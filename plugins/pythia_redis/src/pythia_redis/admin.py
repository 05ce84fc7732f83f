"""Questions and chores around streams, for workers that scale or tidy up by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pythia_core import Backlog, NotOpenError, Resource
from pythia_redis.options import RedisOptions

if TYPE_CHECKING:
    from pythia_redis.connection import Wire


@attrs.define(eq=False)
class RedisStreamsAdmin(RedisOptions, Resource):
    """Ask about streams, and trim them.

    Args:
        url: see :class:`~pythia_redis.options.RedisOptions`, like everything else.

    Example:
        ::

            class Processor(Worker):
                source = RedisStreamsConsumer("events", consumer_group="processors")
                admin = RedisStreamsAdmin()

                async def should_scale_up(self):
                    return await self.admin.get_consumer_lag("processors", "events") > 1000
    """

    _wire: Wire | None = attrs.field(default=None, init=False, repr=False)

    @property
    def broker_connections(self) -> int:
        """One."""
        return 1

    async def open(self) -> None:
        """Be ready to connect, which happens at the first question."""
        from pythia_redis.connection import Wire

        self._wire = Wire(self.address(), name="admin")

    async def aclose(self) -> None:
        """Disconnect."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    async def backlog(self, consumer_group: str, stream: str) -> Backlog:
        """Return what a group has left of a stream.

        Raises:
            ConnectionLost: if the server cannot be asked.
        """
        from pythia_redis.inspector import ask_backlog

        return await ask_backlog(self._opened(), stream, consumer_group)

    async def get_consumer_lag(self, consumer_group: str, stream: str) -> int:
        """Return how many entries a group has not been handed yet: at least so many, where Redis has lost count."""
        return (await self.backlog(consumer_group, stream)).waiting or 0

    async def get_held(self, stream: str) -> int:
        """Return how many entries of a stream are held back for their delay, due or not."""
        from pythia_redis.held import held_key

        held: int = await self._opened().call("ZCARD", held_key(stream))
        return held

    async def trim_settled(self, stream: str) -> int:
        """Remove the entries that every group has settled, and return how many.

        Entries behind one that is still pending or undelivered stay. Run it now and then where ``delete_settled`` is
        not set; unlike MAXLEN it never removes what somebody still has to read.
        """
        from pythia_redis.group import value
        from pythia_redis.scripts import TRIM

        removed: int = value(*await self._opened().run(TRIM, stream, ()))
        return removed

    def _opened(self) -> Wire:
        if self._wire is None:
            raise NotOpenError("RedisStreamsAdmin is not open: use `async with`, or await open() first")
        return self._wire
