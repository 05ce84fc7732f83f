"""Faults that a test orders from the broker: calls that fail, replies that get lost, calls that hang.

They stand apart so that the broker itself stays honest: it never fails of its own accord.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import attrs

from pythia_core.errors import WriteError

Operation = Literal["subscribe", "fetch", "settle", "write"]


class Waitable(Protocol):
    """An event of any event loop."""

    async def wait(self) -> object:
        """Return once it is set."""
        ...


@attrs.define(eq=False)
class Fault:
    """One ordered fault: of which operation, on which topic (None for any), and how many more times."""

    operation: Operation
    topic: str | None
    times: int
    when: Literal["before", "after", "index"]
    error: BaseException | None = None
    until: Waitable | None = None
    indexes: Mapping[int, WriteError] = attrs.field(factory=dict)


class FaultInjection:
    """What a test can order. Faults of one operation happen in the order they were ordered in, each ``times`` times."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def fail_next(
        self,
        operation: Operation,
        *,
        times: int = 1,
        error: BaseException | None = None,
        topic: str | None = None,
    ) -> None:
        """Let the next calls raise without having done anything. A fetch that waits raises at once."""
        self._order(Fault(operation, topic, times, "before", error or _default(operation, "refused")))

    def drop_reply(self, operation: Operation, *, times: int = 1, topic: str | None = None) -> None:
        """Let the next calls do what they should, and raise as if the answer never came."""
        self._order(Fault(operation, topic, times, "after", _default(operation, "lost the answer of")))

    def hold(
        self, operation: Operation, until: Waitable, *, times: int = 1, topic: str | None = None
    ) -> None:
        """Let the next calls wait for an event before they do anything."""
        self._order(Fault(operation, topic, times, "before", until=until))

    def fail_indexes(
        self, errors: Mapping[int, WriteError], *, times: int = 1, topic: str | None = None
    ) -> None:
        """Let the next writes fail at these indexes, with these errors, which say whether it is for good."""
        self._order(Fault("write", topic, times, "index", indexes=errors))

    def heal(self) -> None:
        """Forget all faults that have not happened yet."""
        self._faults.clear()

    def wake(self) -> None:
        """Wake every waiting fetch, so that a fault happens now and not at the next message."""

    def _order(self, fault: Fault) -> None:
        self._faults.append(fault)
        self.wake()

    async def before(self, operation: Operation, topic: str) -> None:
        """Raise or wait, if that was ordered. Every operation calls this first."""
        while fault := self._due(operation, topic, "before"):
            if fault.until is None:
                assert fault.error is not None
                raise fault.error
            await fault.until.wait()

    def after(self, operation: Operation, topic: str) -> None:
        """Raise, if that was ordered, though the operation was executed. Every operation calls this last."""
        if (fault := self._due(operation, topic, "after")) and fault.error is not None:
            raise fault.error

    def index_errors(self, topic: str) -> Mapping[int, WriteError]:
        """Return which indexes of this write are to fail."""
        fault = self._due("write", topic, "index")
        return fault.indexes if fault else {}

    def _due(self, operation: Operation, topic: str, when: str) -> Fault | None:
        if not self._faults:
            return None
        wanted = (fault for fault in self._faults if (fault.operation, fault.when) == (operation, when))
        if fault := next((fault for fault in wanted if fault.topic in (None, topic)), None):
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)
        return fault


def _default(operation: str, what: str) -> ConnectionError:
    return ConnectionError(f"injected: the broker {what} this {operation}")
