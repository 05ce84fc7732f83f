"""A resource holds a connection: sinks, admins and collectors are resources, and the worker opens and closes them."""

from __future__ import annotations

import copy
from types import TracebackType
from typing import Self


class Resource:
    """Something that is made anywhere, and opened inside the event loop.

    Making one must not need an event loop or a network, so that it can be a class attribute or be made in
    ``__init__``. The worker opens a copy of each (one per identity) at its start and closes it last.

    Example:
        >>> class Clock(Resource):
        ...     async def open(self) -> None:
        ...         self.ticks = 0
    """

    @property
    def broker_connections(self) -> int:
        """The most connections to a broker that it holds at once, for ``max_connections``; none unless it says so."""
        return 0

    async def open(self) -> None:
        """Connect. Called once, inside the event loop, before the first use. May raise what connecting raises."""

    async def aclose(self) -> None:
        """Disconnect. Must be safe to call twice, and must end within a few seconds even if the network is gone."""

    def fresh(self) -> Self:
        """Return an unopened copy, which a worker opens for itself. The default is a shallow copy."""
        return copy.copy(self)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
