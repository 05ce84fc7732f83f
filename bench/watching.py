"""A source around a source that tells what was settled, so that a bench ends at that moment and polls for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from pythia_core import Capabilities, Chunk, Owner, Partition, Refusals, Settlement, Source, Subscription


@attrs.frozen(eq=False)
class Watched(Source):
    """Does what ``source`` does.

    Args:
        source: resolved.
        settled: called with what the broker has just taken.
    """

    source: Source
    settled: Callable[[Sequence[Settlement]], None]

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def group(self) -> str | None:
        """The source's."""
        return self.source.group

    @property
    def capabilities(self) -> Capabilities:
        """The source's."""
        return self.source.capabilities

    async def subscribe(self, owner: Owner) -> Subscription:
        """Subscribe to the source."""
        return WatchedSubscription(await self.source.subscribe(owner), self.settled)


@attrs.frozen(eq=False)
class WatchedSubscription(Subscription):
    """Hands every call on."""

    subscription: Subscription
    settled: Callable[[Sequence[Settlement]], None]

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Fetch."""
        return await self.subscription.fetch(room, limit, max_bytes, wait)

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Settle, and tell; refusals are an error here, since nobody else reads."""
        if refused := await self.subscription.settle(settlements):
            raise RuntimeError(f"refused: {refused}")
        self.settled(settlements)
        return ()

    @property
    def more_is_coming(self) -> bool:
        """The same."""
        return self.subscription.more_is_coming

    async def stop_fetching(self) -> None:
        """Stop."""
        await self.subscription.stop_fetching()

    async def aclose(self) -> None:
        """Close."""
        await self.subscription.aclose()
