"""The positions of a group in memory: what ``pythia offsets`` would show and move, and the example of the contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import anyio.lowlevel
import attrs

from pythia_core.brokers.memory.broker import MemoryBroker
from pythia_core.brokers.memory.group import Group
from pythia_core.brokers.memory.rules import Rules
from pythia_core.contracts.positions import Mark, Move, Positions, Seek, Standing
from pythia_core.errors import ConfigError


@attrs.frozen
class MemoryPositions(Positions):
    """The offsets of a group, by partition of its topic.

    Args:
        broker: where.
        topic: what is read.
        name: of the group.
        rules: of the group, where it is not there yet.
    """

    broker: MemoryBroker
    topic: str
    name: str
    rules: Rules

    async def standing(self) -> Standing:
        """See :meth:`pythia_core.Positions.standing`."""
        await anyio.lowlevel.checkpoint()
        group = self._group()
        marks = {str(partition): self._mark(group, partition) for partition in range(len(group.topic.logs))}
        return Standing(marks, tuple(member.name for member in group.members))

    def _group(self) -> Group:
        return self.broker.present_or_new(self.topic, self.name, self.rules)

    def _mark(self, group: Group, partition: int) -> Mark:
        log, position = group.topic.logs[partition], group.position(partition)
        waiting = log.read(position, 1)
        return Mark(
            position=str(position),
            first=str(log.base),
            end=str(log.end),
            waiting=log.end - position,
            oldest=waiting[0].timestamp if waiting else None,
        )

    async def find(self, seek: Seek, partitions: Collection[str]) -> Mapping[str, Move]:
        """See :meth:`pythia_core.Positions.find`."""
        await anyio.lowlevel.checkpoint()
        group = self._group()
        found = {partition: self._find(group, int(partition), seek) for partition in partitions}
        return {
            partition: Move(str(offset), group.position(int(partition)) - offset)
            for partition, offset in found.items()
        }

    def _find(self, group: Group, partition: int, seek: Seek) -> int:
        log = group.topic.logs[partition]
        if seek.kind == "earliest":
            return log.base
        if seek.kind == "latest":
            return log.end
        if seek.kind == "by":
            return min(max(group.position(partition) + seek.messages, log.base), log.end)
        if seek.kind == "time":
            return next((one.offset for one in log.records if one.timestamp >= seek.seconds), log.end)
        if not seek.position.isdigit() or not log.base <= int(seek.position) <= log.end:
            raise ConfigError(
                f"partition {partition} of {self.topic} has no offset {seek.position!r}, only {log.base} to {log.end}"
            )
        return int(seek.position)

    async def move(self, to: Mapping[str, str], *, force: bool = False) -> None:
        """See :meth:`pythia_core.Positions.move`; members of a log are not to be forced."""
        await anyio.lowlevel.checkpoint()
        group = self.broker.group(self.topic, self.name, self.rules)
        if group.members:
            raise ConfigError(f"group {self.name!r} has {len(group.members)} members: stop them first")
        for partition, offset in to.items():
            group.move(int(partition), int(offset))
