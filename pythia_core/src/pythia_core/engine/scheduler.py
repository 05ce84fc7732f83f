"""The scheduler decides which message runs next: it opens and closes keys, and hands messages to the workers.

Invariants, each checked by ``tests/engine/test_model.py``:

- S1. At most one message of a key is started (running, parked or publishing) at a time, in this process. The messages of
  a key that a batch takes, its run, count as one: the next starts when all of them have ended.
- S2. Messages of a key start in the order in which they were admitted.
- S3. A key is open exactly while one of its messages is queued or started; a closed key costs nothing.
- S4. ``ready`` holds only messages that may start now: heads of keys, and messages without a key.
- S5. A key whose message still runs when its ledger closes (an orphan) stays open in the partition's next ledger until
  that message has ended.

A key is one of ``ledger.lanes``, so keys belong to a partition and go with it. Where a batch takes several messages of a
key, a :class:`~pythia_core.engine.runs.Run` stands in for them as the head of the key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from pythia_core.contracts.message import Message, Partition
from pythia_core.engine.ledger import DONE, Entry, Ledger
from pythia_core.engine.runs import Run, head_of, runs_alone, take_run
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
        self._orphans: dict[tuple[Partition, Hashable], Message[Any]] = {}
        self._current: dict[Partition, Ledger] = {}

    def open(self, ledger: Ledger) -> None:
        """Begin with a new ledger of a partition; keys of orphans are open in it from the start."""
        self._current[ledger.partition] = ledger
        for (partition, lane), orphan in self._orphans.items():
            if partition == ledger.partition:
                ledger.lanes[lane] = orphan

    def admit(self, entries: Iterable[Entry]) -> None:
        """Queue admitted messages. One worker is woken, who wakes the next if there is more than it can take."""
        if self.ordered:
            self._admit_in_order(entries)
        else:
            for ledger, messages, first in entries:
                for number, message in enumerate(messages, first):
                    message._ledger = ledger
                    message._sequence = number
                self.ready += messages
        if self.ready:
            self._wake()

    def _admit_in_order(self, entries: Iterable[Entry]) -> None:
        ready, by_key = self.ready, self.order == "key"
        for ledger, messages, first in entries:
            lanes, order_by = ledger.lanes, type(messages[0]).order_by
            for message in messages:  # no iterators side by side: of one message they cost more than it does
                lane = order_by(message) if by_key else True
                message._ledger = ledger
                message._sequence = first
                message._lane = lane
                first += 1
                if lane is None:
                    ready.append(message)
                else:
                    if lane in lanes:
                        lanes[lane]._next = message
                    else:
                        ready.append(message)
                    lanes[lane] = message

    def batch_is_full(self, size: int) -> bool:
        """Return True if a batch of ``size`` messages need not wait for more."""
        count = 0
        for head in self.ready:
            if runs_alone(head):
                return True
            count += 1
            if self.ordered and head._lane is not None:
                count += sum(1 for _ in islice(_chain(head), max(size - count, 0)))
            if count >= size:
                return True
        return False

    def take(self, size: int) -> list[Message[Any]]:
        """Take a batch of at most ``size`` messages off the queue; one that has failed before comes alone."""
        ready, batch = self.ready, list[Message[Any]]()
        while ready and len(batch) < size:
            if runs_alone(ready[0]):
                return batch or [ready.popleft()]
            head = ready.popleft()
            if self.ordered and head._lane is not None:
                batch += take_run(head, size - len(batch))
            else:
                batch.append(head)
        return batch

    def requeue(self, message: Message[Any]) -> None:
        """Make a started message ready again; its key never closed. What is left of its run comes before it."""
        run = getattr(message, "_next", None)
        if type(run) is not Run:
            self.ready.append(message)
            self._wake()
            return
        run.put_behind(message)
        if run.left():
            self._run_ended(message)
            self._pass_on(message._ledger, run)

    def complete(self, message: Message[Any], state: int = DONE) -> None:
        """Write a message's outcome, close or pass on its key, and count it. The workers do the same in line."""
        ledger = message._ledger
        if ledger.closed:
            self.orphan_ended(message)
            return
        ledger.mark(message, state)
        if self.ordered and message._lane is not None:
            self._pass_on(ledger, message)
        self._count(message)

    def _count(self, message: Message[Any]) -> None:
        stats = self._stats
        stats.finished += 1
        if stats.finished >= self.wake_at:
            self.progress()

    def _pass_on(self, ledger: Ledger, message: Message[Any]) -> None:
        """Close the key of a message that has ended, or let the next one of it start."""
        lane = message._lane
        if ledger.lanes[lane] is message:
            del ledger.lanes[lane]
            return
        head = self._ended(message)
        if head is message:
            self.ready.append(self._unchain(message))
            self._wake()
        elif head is not None:
            self._pass_on(ledger, head)

    def _ended(self, message: Message[Any]) -> Message[Any] | None:
        """Take a message out of its run; return what was the head of its key, or None while others of the run are left."""
        run = getattr(message, "_next", None)
        if type(run) is not Run:
            return message
        message._next = None
        if not run.left():
            return None
        self._run_ended(message)
        return run

    def _run_ended(self, message: Message[Any]) -> None:
        """Forget that a run, of which ``message`` was the last, had an orphan in it."""
        self._orphans.pop((message.partition, message._lane), None)

    @staticmethod
    def _unchain(message: Message[Any]) -> Message[Any]:
        following = message._next
        message._next = None  # else a message that its user keeps would keep all later ones of its key
        assert following is not None
        return following

    def orphan_ended(self, message: Message[Any]) -> None:
        """Take note that a message of a closed ledger has ended: its result is ignored, its key may go on."""
        if self.ordered and message._lane is not None and (head := self._ended(message)) is not None:
            self._orphans.pop((message.partition, message._lane), None)
            current = self._current.get(message.partition)
            if current is not None and not current.closed and message._lane in current.lanes:
                self._pass_on(current, head)
        self._count(message)

    def purge(
        self,
        ledgers: Collection[Ledger],
        parked: Sequence[Message[Any]] = (),
        started: Sequence[Message[Any]] = (),
    ) -> list[Message[Any]]:
        """Take out what has not started and return it; keys of started messages stay open.

        The messages are counted as finished; the caller says what becomes of them.

        Args:
            ledgers: whose messages.
            parked: those among them that are parked: they count as not started.
            started: those among them that are running or publishing.
        """
        queued = [message for message in self.ready if message._ledger in ledgers]
        self._keep(lambda message: message._ledger not in ledgers)
        unstarted = [*queued, *parked]
        if self.ordered:
            for message in (*unstarted, *started, *self._orphans.values()):
                unstarted += self._cut(head_of(message), ledgers)
            for message in (*queued, *parked):
                if self._ended(message) is not None:
                    message._ledger.lanes.pop(message._lane, None)
        for message in unstarted:
            self._count(message)
        return unstarted

    def _keep(self, wanted: Callable[[Message[Any]], bool]) -> None:
        kept = [message for message in self.ready if wanted(message)]
        self.ready.clear()
        self.ready += kept

    def _cut(self, head: Message[Any], ledgers: Collection[Ledger]) -> list[Message[Any]]:
        """Take off and return what is chained behind the head of a key, if it belongs to ``ledgers``."""
        behind = list(_chain(head))
        if not behind or behind[0]._ledger not in ledgers:
            return []
        behind[0]._ledger.lanes[head._lane] = head
        for message in (head, *behind):
            message._next = None
        return behind

    def withdraw(self, message: Message[Any]) -> None:
        """Let a started message of a draining ledger leave as if it had never started."""
        if self.ordered and message._lane is not None:
            self._pass_on(message._ledger, message)
        self._count(message)

    def abandon(self, ledger: Ledger, started: Sequence[Message[Any]]) -> None:
        """Close a ledger whose ``started`` messages are still at work: their keys wait for them in the next one."""
        ledger.close()
        for message in started:
            self._orphan(message)

    def strike(self, message: Message[Any], tomb: Ledger) -> None:
        """Point a started message that is no longer ours at a closed ledger; its key stays open here until it ends."""
        message._ledger = tomb
        self._orphan(message)

    def _orphan(self, message: Message[Any]) -> None:
        if self.ordered and message._lane is not None:
            self._orphans[message.partition, message._lane] = head_of(message)

    def discard(self, messages: Collection[Message[Any]], heads: Sequence[Message[Any]]) -> None:
        """Drop unstarted messages that are no longer ours, wherever they wait; later ones of their keys move up.

        Args:
            messages: what to drop.
            heads: all started and parked messages of the ledger, behind which some of them may wait, as behind orphans.
        """
        gone = {id(message) for message in messages}
        queued = list(self.ready)
        self._keep(lambda message: id(message) not in gone)
        if self.ordered:
            for head in (*queued, *heads, *self._orphans.values()):
                if head._lane is not None:
                    self._unlink(head_of(head), gone)
            for message in messages:
                if message._lane is not None and message._lane in message._ledger.lanes:
                    self._pass_on_head(message, queued, heads)
        for message in messages:
            self._count(message)

    def _unlink(self, head: Message[Any], gone: Collection[int]) -> None:
        """Take the messages that are gone out of the chain behind ``head``."""
        chain = list(_chain(head))
        if not any(id(message) in gone for message in chain):
            return
        kept = [head, *(message for message in chain if id(message) not in gone)]
        for message, following in zip(kept, [*kept[1:], None], strict=True):
            message._next = following
        chain[0]._ledger.lanes[head._lane] = kept[-1]

    def _pass_on_head(
        self, message: Message[Any], queued: Sequence[Message[Any]], heads: Sequence[Message[Any]]
    ) -> None:
        if any(head is message for head in (*queued, *heads)):
            self._pass_on(message._ledger, message)


def _chain(head: Message[Any]) -> Iterator[Message[Any]]:
    """Yield the messages that wait behind ``head`` for its key."""
    following: Message[Any] | None = getattr(head, "_next", None)
    while following is not None:
        yield following
        following = following._next if hasattr(following, "_next") else None
