"""A source whose every call a test decides: for what the broker in memory does too politely to be a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import attrs

from pythia_core.contracts import (
    Assignment,
    Capabilities,
    Chunk,
    Message,
    Owner,
    Partition,
    Refusals,
    Settlement,
    Source,
    Subscription,
)


@attrs.define(eq=False)
class Scripted(Source, Subscription):
    """A source, and the one subscription that is made of it.

    Args:
        capabilities: what the engine is told.
        assignments: assigned by ``subscribe``.
        on_stop_fetching, on_settle, on_close: awaited within these calls.
    """

    capabilities: Capabilities = attrs.field(factory=Capabilities)
    assignments: dict[Partition, Assignment] = attrs.field(factory=lambda: {0: Assignment(1)})
    on_subscribe: Callable[[], Awaitable[object]] | None = None
    on_stop_fetching: Callable[[], Awaitable[object]] | None = None
    on_settle: Callable[[Sequence[Settlement]], Awaitable[Refusals]] | None = None
    on_close: Callable[[], Awaitable[object]] | None = None
    more_is_coming: bool = False
    rooms: list[dict[Partition, int]] = attrs.field(factory=list)
    limits: list[int] = attrs.field(factory=list)
    settlements: list[Settlement] = attrs.field(factory=list)
    chunks: list[Chunk] = attrs.field(factory=list)
    owner: Any = None
    closed: int = 0
    _news: anyio.Event = attrs.field(factory=anyio.Event)

    @property
    def name(self) -> str:
        return "orders"

    def deliver(
        self, *bodies: bytes, partition: Partition = 0, first: int = 0, keys: Sequence[Any] = ()
    ) -> None:
        """Let the fetch that waits return these messages, whatever it was asked for."""
        messages = [
            Message[Any](raw, key=keys[n] if keys else None, partition=partition, position=first + n)
            for n, raw in enumerate(bodies)
        ]
        position = first + len(bodies) if self.capabilities.ack == "cumulative" else None
        self.chunks.append(Chunk(partition, messages, position))
        self.news()

    def news(self) -> None:
        """Let the fetch that waits return."""
        self._news.set()

    @property
    def done(self) -> set[Any]:
        """The positions that were settled as done."""
        return {position for settlement in self.settlements for position in settlement.beyond}

    @property
    def released(self) -> list[Any]:
        """The positions that were given back."""
        return [position for settlement in self.settlements for position in settlement.released]

    async def subscribe(self, owner: Owner) -> Subscription:
        if self.on_subscribe is not None:
            await self.on_subscribe()
        self.owner = owner
        owner.assigned(self.assignments)
        return self

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        self.rooms.append(dict(room))
        self.limits.append(limit)
        with anyio.move_on_after(wait):
            await self._news.wait()
        self._news = anyio.Event()
        chunks, self.chunks = self.chunks, []
        return chunks

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        answer: Refusals = () if self.on_settle is None else await self.on_settle(settlements)
        self.settlements += settlements
        return answer

    async def stop_fetching(self) -> None:
        if self.on_stop_fetching is not None:
            await self.on_stop_fetching()
        self._news.set()

    async def aclose(self) -> None:
        self.closed += 1
        self._news.set()
        if self.on_close is not None:
            await self.on_close()
