"""An owner that writes down what a subscription tells it, instead of an engine."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from pythia_core.contracts import Assignment, Partition


@attrs.define(eq=False)
class Recorder:
    """Writes down every call, and what is held after it.

    Args:
        on_revoked: awaited in ``revoked``, as an engine drains there.
        held: the present assignments.
        calls: ``(name, partitions)`` in order.
        deadlines: of the revocations.
    """

    on_revoked: Callable[[Sequence[Partition]], Awaitable[object]] | None = None
    held: dict[Partition, Assignment] = attrs.field(factory=dict)
    calls: list[tuple[str, list[Partition]]] = attrs.field(factory=list)
    deadlines: list[float] = attrs.field(factory=list)

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        """Take what is given; nothing that is held can be given again."""
        assert not set(assignments) & set(self.held), f"{assignments} given, {self.held} held"
        self.held.update(assignments)
        self.calls.append(("assigned", sorted(assignments, key=str)))

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        """Drain, then let go."""
        self.calls.append(("revoked", sorted(partitions, key=str)))
        self.deadlines.append(deadline)
        if self.on_revoked is not None:
            await self.on_revoked(partitions)
        for partition in partitions:
            self.held.pop(partition, None)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Let go at once."""
        self.calls.append(("lost", sorted(partitions, key=str)))
        for partition in partitions:
            del self.held[partition]

    def names(self) -> list[str]:
        """Return the names of the calls, in order."""
        return [name for name, _ in self.calls]
