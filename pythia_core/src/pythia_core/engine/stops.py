"""Why intake is stopped for the whole engine: named reasons that outlive a subscription.

They stand apart from :mod:`~pythia_core.engine.intake`, whose own reasons (messages, bytes, span) belong to one
subscription's partitions and go with it. These are set by parts that watch something else: the brake, suspects, memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator


class Stops:
    """A set of reasons; while it holds any, a fetch brings no more than the strictest of them allows, mostly nothing.

    Args:
        changed: called with a reason, and True when it is added or False when it is gone.
        resumed: called when a fetch may bring more than before.
    """

    def __init__(self, *, changed: Callable[[str, bool], None], resumed: Callable[[], None]) -> None:
        self._changed = changed
        self._resumed = resumed
        self._allowed: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {}

    def add(
        self, reason: str, allowed: Callable[[], int] = lambda: 0, beyond: Callable[[], int] = lambda: 0
    ) -> None:
        """Stop intake for ``reason``; added again, it changes nothing.

        Args:
            reason: a short phrase for health and telemetry; what it is removed by.
            allowed: asked before each fetch, and a few times a second, how many messages it may bring all the same.
            beyond: asked where the bounds on messages and spans are used up, by how much they are raised meanwhile.
        """
        if reason not in self._allowed:
            self._allowed[reason] = allowed, beyond
            self._changed(reason, True)

    def discard(self, reason: str) -> None:
        """Remove a reason; one that is not there is none."""
        if self._allowed.pop(reason, None) is not None:
            self._changed(reason, False)
            self._resumed()

    def nudge(self) -> None:
        """Have what is allowed asked for again now."""
        self._resumed()

    @property
    def allowed(self) -> int:
        """How many messages the next fetch may bring; asked only while there is a reason."""
        return min(allowed() for allowed, _ in self._allowed.values())

    @property
    def beyond(self) -> int:
        """By how much the bounds on messages and spans are raised for what is allowed; asked only while there is a reason."""
        return min(beyond() for _, beyond in self._allowed.values())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._allowed))

    def __len__(self) -> int:
        return len(self._allowed)

    def __contains__(self, reason: object) -> bool:
        return reason in self._allowed
