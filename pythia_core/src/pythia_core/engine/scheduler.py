"""The scheduler decides which message runs next: it opens and closes keys, and hands messages to the workers.

Invariants, each checked by ``tests/engine/test_model.py``:

- S1. At most one message of a key is started (running, parked or publishing) at a time, in this process.
- S2. Messages of a key start in the order in which they were admitted.
- S3. A key is open exactly while one of its messages is queued or started; a closed key costs nothing.
- S4. ``ready`` holds only messages that may start now: heads of keys, and messages without a key.
- S5. A key whose message still runs when its ledger closes (an orphan) stays open in the partition's next ledger until
  that message has ended.

A key is one of ``ledger.lanes``, so keys belong to a partition and go with it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

from pythia_core.contracts.message import Message, Partition
from pythia_core.engine.ledger import DONE, Ledger
from pythia_core.engine.stats import Stats
from pythia_core.settings import Order

STREAK = 64  # messages of one key in a row before others get their turn


class Scheduler:
    """Queues of what may run.

    Args:
        order: ``key``, ``partition`` or ``none``.
        stats: counters shared with the rest of the engine.
        wake: called when something became ready.
        progress: called when ``stats.finished`` reaches :attr:`wake_at`.
    """

    def __init__(
        self, order: Order, stats: Stats, *, wake: Callable[[], None], progress: Callable[[], None]
    ) -> None:
        self.order = order
        self.ordered = order != "none"
        self.ready: deque[Message[Any]] = deque()
        self.wake_at = 0  # the count of finished messages at which somebody wants to be told
        self._stats = stats
        self._wake = wake
        self.progress = progress
        self._orphans: Counter[tuple[Partition, Hashable]] = Counter()
        self._current: dict[Partition, Ledger] = {}

    def open(self, ledger: Ledger) -> None:
        """Begin with a new ledger of a partition; keys of orphans are open in it from the start."""
        self._current[ledger.partition] = ledger
        for partition, lane in self._orphans:
            if partition == ledger.partition:
                ledger.lanes[lane] = None

    def admit(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        """Queue admitted messages, numbered from ``first``."""
        if not self.ordered:
            for number, message in enumerate(messages, first):
                message._ledger = ledger
                message._sequence = number
            self.ready += messages
        else:
            self._admit_in_order(ledger, messages, first)
        if self.ready:
            self._wake()

    def _admit_in_order(self, ledger: Ledger, messages: Sequence[Message[Any]], first: int) -> None:
        lanes, ready, by_key = ledger.lanes, self.ready, self.order == "key"
        for number, message in enumerate(messages, first):
            message._ledger = ledger
            message._sequence = number
            message._lane = lane = message.key if by_key else True
            if lane is None:
                ready.append(message)
            elif lane not in lanes:
                lanes[lane] = None
                ready.append(message)
            elif (waiting := lanes[lane]) is None:
                lanes[lane] = deque((message,))
            else:
                waiting.append(message)

    def requeue(self, message: Message[Any]) -> None:
        """Make a started message (its park is over) ready again; its key never closed."""
        self.ready.append(message)
        self._wake()

    def complete(self, message: Message[Any], state: int = DONE) -> None:
        """Write a message's outcome, close or pass on its key, and count it. The workers do the same in line."""
        ledger = message._ledger
        if ledger.closed:
            self.orphan_ended(message)
            return
        ledger.mark(message, state)
        if self.ordered and message._lane is not None:
            self._pass_on(ledger, message._lane)
        self._count(message)

    def _count(self, message: Message[Any]) -> None:
        stats = self._stats
        stats.finished += 1
        stats.in_flight_bytes -= message.size
        if stats.finished >= self.wake_at:
            self.progress()

    def _pass_on(self, ledger: Ledger, lane: Hashable) -> None:
        waiting = ledger.lanes[lane]
        if waiting:
            self.ready.append(waiting.popleft())
            self._wake()
        else:
            del ledger.lanes[lane]

    def orphan_ended(self, message: Message[Any]) -> None:
        """Take note that a message of a closed ledger has ended: its result is ignored, its key may go on."""
        if self.ordered and message._lane is not None:
            name = message.partition, message._lane
            self._orphans[name] -= 1
            if self._orphans[name] <= 0:
                del self._orphans[name]
                current = self._current.get(message.partition)
                if current is not None and not current.closed and message._lane in current.lanes:
                    self._pass_on(current, message._lane)
        self._count(message)

    def purge(self, ledgers: Collection[Ledger], parked: Sequence[Message[Any]] = ()) -> list[Message[Any]]:
        """Take out what has not started, parked messages among it, and return it; keys of started messages stay open.

        The messages are counted as finished; the caller says what becomes of them.
        """
        queued = [message for message in self.ready if message._ledger in ledgers]
        if queued:
            kept = [message for message in self.ready if message._ledger not in ledgers]
            self.ready.clear()
            self.ready += kept
        unstarted = [*queued, *parked]
        for ledger in ledgers:
            for waiting in ledger.lanes.values():
                if waiting:
                    unstarted += waiting
                    waiting.clear()
        for message in (*queued, *parked) if self.ordered else ():
            if message._lane is not None:
                message._ledger.lanes.pop(message._lane, None)
        for message in unstarted:
            self._count(message)
        return unstarted

    def withdraw(self, message: Message[Any]) -> None:
        """Let a started message of a draining ledger leave as if it had never started."""
        if self.ordered and message._lane is not None:
            message._ledger.lanes.pop(message._lane, None)
        self._count(message)

    def abandon(self, ledger: Ledger, started: Sequence[Message[Any]]) -> None:
        """Close a ledger whose ``started`` messages are still at work: their keys wait for them in the next one."""
        ledger.close()
        for message in started:
            if self.ordered and message._lane is not None:
                self._orphans[message.partition, message._lane] += 1

    def strike(self, message: Message[Any], tomb: Ledger) -> None:
        """Point a started message that is no longer ours at a closed ledger; its key stays open here until it ends."""
        message._ledger = tomb
        if self.ordered and message._lane is not None:
            self._orphans[message.partition, message._lane] += 1

    def discard(self, messages: Sequence[Message[Any]]) -> None:
        """Drop unstarted messages that are no longer ours, wherever they wait; later ones of their keys move up."""
        gone = {id(message) for message in messages}
        heads = [message for message in messages if not self._waits(message)]
        kept = [message for message in self.ready if id(message) not in gone]
        self.ready.clear()
        self.ready += kept
        for message in messages:
            if self._waits(message):
                waiting = message._ledger.lanes[message._lane]
                assert waiting is not None
                waiting.remove(message)
            self._count(message)
        for message in heads:
            if self.ordered and message._lane is not None:
                self._pass_on(message._ledger, message._lane)

    def _waits(self, message: Message[Any]) -> bool:
        """Tell whether the message stands behind another one of its key."""
        if not self.ordered or message._lane is None:
            return False
        waiting = message._ledger.lanes.get(message._lane)
        return bool(waiting) and any(other is message for other in waiting or ())
