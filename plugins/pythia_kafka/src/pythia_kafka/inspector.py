"""How much a source's group has left, and what, on a connection that is kept open."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pythia_core import Backlog, Inspector
from pythia_kafka.browsing import browse
from pythia_kafka.lag import LagMeter
from pythia_kafka.message import KafkaMessage
from pythia_kafka.topics import NotThere

if TYPE_CHECKING:
    from pythia_kafka.source import KafkaConsumer


class KafkaInspector(Inspector):
    """Counts what a source's group has left.

    Args:
        source: the resolved source.
    """

    def __init__(self, source: KafkaConsumer) -> None:
        self._source = source
        self._meter = LagMeter(source.login(), source.isolation_level)

    async def backlog(self) -> Backlog:
        """Return the backlog. For a group that is not there yet it is what the group would read.

        Raises:
            NotThere: if a topic is not there.
            KafkaError: if the cluster cannot be asked.
        """
        source = self._source
        try:
            return await self._meter.backlog(
                source.consumer_group or "",
                await self._names(),
                ages=True,
                unknown_group_reads_all=source.offset_reset == "earliest",
            )
        except NotThere as error:
            if "consumer group" in str(error):
                return Backlog()  # what it is to read is decided when it is made
            raise

    async def browse(self) -> AsyncGenerator[KafkaMessage]:
        """Yield what lies behind the committed offsets, oldest first, without joining the group.

        What was done out of turn, behind something that is not done, is shown too.

        Raises:
            NotThere: if a topic is not there.
            KafkaError: if the cluster cannot be asked.
        """
        source = self._source
        left = await self._meter.left(source.consumer_group or "", await self._names())
        async with aclosing(browse(source.login(), source.isolation_level, left)) as messages:
            async for message in messages:
                yield message

    async def _names(self) -> Collection[str]:
        if self._source.whole_pattern is None:
            return self._source.names
        pattern = re.compile(self._source.whole_pattern)
        return [name for name in await self._meter.topics.describe(None) if pattern.match(name)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._meter.aclose()
