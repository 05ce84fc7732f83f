"""One subscription's life: from ``subscribe`` to ``aclose``, as the owner that the subscription reports to.

Invariants:

- O1. No await stands between the return of a fetch and the admission of what it brought.
- O2. A fetch is never cancelled before ``aclose``; it is asked to end by ``stop_fetching``.
- O3. What is released is released after ``stop_fetching`` (a stop) or under the revoke that ends its assignment.
- O4. After a revoke or a loss the partition's ledger is closed: nothing of it is settled any more.
- O5. ``revoked`` returns by its deadline, and a stop ends by its own, whatever handlers and brokers do; only closing the
  subscription may take 1 s more.
- O6. Once a stop has begun nothing more is started, however long the client takes to stop its delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import anyio

from pythia_core.contracts.message import Partition
from pythia_core.contracts.settlement import Assignment, Chunk, Refused, Settlement
from pythia_core.contracts.source import Subscription
from pythia_core.engine.admission import Admission
from pythia_core.engine.committer import Committer
from pythia_core.engine.drain import FORCED_SETTLE, Drain
from pythia_core.engine.intake import Intake
from pythia_core.engine.ledger import Ledger
from pythia_core.engine.noted_ledger import NotedLedger
from pythia_core.engine.offset_ledger import OffsetLedger
from pythia_core.engine.opening import Openings
from pythia_core.engine.token_ledger import TokenLedger
from pythia_core.errors import SubscriptionLost

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine

log = logging.getLogger("pythia.session")

SUBSCRIBE_DEADLINE = 60.0  # seconds
CLOSE_DEADLINE = 10.0  # seconds, for a subscription that does not keep to "a few seconds"
CLOSE_GRACE = 1.0  # seconds that it has past the deadline of a stop that used up all its time
WAIT = 0.5  # seconds a fetch may wait for its first message
WAIT_LEFT_OUT = 0.01  # the same while a partition is left out, which would else stall when its room returns
STOPPED_WAIT = 0.25  # seconds between looks at a client while nothing may be fetched


class Session:
    """The engine's side of one subscription.

    Args:
        engine: what the session belongs to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._source = engine.source
        self._capabilities = engine.source.capabilities
        self.ledgers: dict[Partition, Ledger] = {}
        self.intake = Intake(
            engine.settings.limits,
            engine.settings.batch_size,
            engine.stats,
            engine.gates,
            engine.stops,
            measure=self.open_bytes,
            changed=lambda reason, stopped: engine.tell("paused", reason, stopped),
        )
        self.subscribed = False
        self.closing = False  # a stop has begun: nothing more is fetched
        self._asked_back: float | None = None  # when partitions were, since the last ones came
        self.draining = False  # the subscription delivers no more: what arrives now is given back at once
        self._subscription: Subscription | None = None
        self._ended = anyio.Event()
        self._error: BaseException | None = None
        self.committer = Committer(
            self._settle,
            self._capabilities,
            interval=engine.settings.batch_timeout,
            stats=engine.stats,
            clock=engine.clock,
            refused=self._refused,
        )
        self.admission = Admission(engine, self)
        self._openings = Openings(self.intake, self.committer, engine.clock)
        self.drain = Drain(engine, self.committer, self._aim)
        self._settle_at = engine.stats.finished + self.committer.threshold

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Subscribe and work until the engine stops.

        Raises:
            Exception: what ended the subscription before that.
        """
        try:
            await self._subscribe()
            if self._subscription is not None:
                self.subscribed = True
                self._engine.stats.subscriptions += 1
                await self._work(self._subscription)
        finally:
            self.subscribed = False
            self.lost(list(self.ledgers))
            await self._close()
        if self._error is not None:
            raise self._error

    async def _subscribe(self) -> None:
        """Subscribe, unless the engine stops before that has succeeded; what was made is ours to close from then on."""
        with anyio.move_on_after(SUBSCRIBE_DEADLINE) as deadline:
            async with anyio.create_task_group() as group:

                async def give_up() -> None:
                    await self._engine.stop_begun()
                    group.cancel_scope.cancel()

                group.start_soon(give_up)
                try:
                    self._subscription = await self._source.subscribe(self)
                except Exception as error:
                    self._error = error
                group.cancel_scope.cancel()
        if deadline.cancelled_caught and self._subscription is None:
            self._error = TimeoutError(
                f"no subscription to {self._source.name} within {SUBSCRIBE_DEADLINE:g} s"
            )

    async def _work(self, subscription: Subscription) -> None:
        shield = anyio.CancelScope(shield=True)  # its tasks end only after the subscription has been closed
        async with anyio.create_task_group() as group:
            group.start_soon(self._client, shield, name="pythia client")
            try:
                await self._until_stop()
                if self._error is None:
                    await self._drain(subscription)
            finally:
                self.lost(list(self.ledgers))
                try:
                    await self._close()
                finally:
                    shield.cancel()

    async def _client(self, shield: anyio.CancelScope) -> None:
        """Run the two tasks that use the subscription."""
        with shield:
            async with anyio.create_task_group() as group:
                group.start_soon(self._fetching, name="pythia fetch")
                group.start_soon(self.committer.run, name="pythia committer")

    async def _until_stop(self) -> None:
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await self._engine.stop_begun()
                self._ended.set()

            group.start_soon(stop)
            await self._ended.wait()
            group.cancel_scope.cancel()

    async def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        began = self._engine.clock()
        deadline = min(began + CLOSE_DEADLINE, max(self._engine.deadline, began + CLOSE_GRACE))
        with anyio.CancelScope(shield=True), self.drain.within(deadline) as scope:
            try:
                await subscription.aclose()
            except Exception as error:
                log.warning("closing the subscription to %s failed: %s", self._source.name, error)
        if scope.cancelled_caught:
            log.error("%s did not close within %.1f s", self._source.name, self._engine.clock() - began)

    def fail(self, error: BaseException) -> None:
        """End this subscription; the engine subscribes anew."""
        if self._error is None:
            self._error = error
        self._ended.set()

    @property
    def busy_or_stopped(self) -> bool:
        """True while there is a reason why a fetch may bring nothing."""
        engine, intake = self._engine, self.intake
        quiet = self.subscribed and not self.closing and not engine.stats.in_flight and bool(self.ledgers)
        stopped = engine.stops or intake.reasons or intake.delay is not None
        return not quiet or bool(stopped) or any(ledger.stopped for ledger in self.ledgers.values())

    def open_bytes(self) -> int:
        """Return the bytes of all bodies in flight."""
        return sum(ledger.open_bytes() for ledger in self.committer.dirty)

    # -- intake --------------------------------------------------------------------------------------------------

    async def _fetching(self) -> None:
        try:
            while not self.closing:
                self._openings.look()
                limit = self.intake.limit()
                self._aim()
                self.admission.admit(await (self._fetch(limit) if limit else self._look_in()))
                self._engine.suspects.fetched()
        except Exception as error:
            self.fail(error)

    async def _fetch(self, limit: int) -> Sequence[Chunk]:
        assert self._subscription is not None
        wait = WAIT_LEFT_OUT if self.intake.left_out or self.intake.delay is not None else WAIT
        began = self._engine.clock()
        chunks = await self._subscription.fetch(self.intake.room, limit, self.intake.bytes(), wait)
        if chunks:
            self._engine.stats.operations["receive"].count(self._engine.clock() - began)
        else:
            self._engine.line.nothing_came(self.ledgers.values())
        return chunks

    async def _look_in(self) -> Sequence[Chunk]:
        """Wait until something may be fetched again; then let the client raise what it has stored."""
        with anyio.move_on_after(min(STOPPED_WAIT, self.intake.delay or STOPPED_WAIT)):
            await self.intake.resumed.wait()
            return ()
        if self._subscription is None:
            return ()
        return await self._subscription.fetch({}, 0, 0, 0.0)

    # -- progress ------------------------------------------------------------------------------------------------

    def progress(self) -> None:
        """React to the count of finished messages that somebody waited for, and aim at the next one."""
        finished = self._engine.stats.finished
        if finished >= self._settle_at:
            self._settle_at = finished + self.committer.threshold
            self.committer.soon()
        if self.intake.resume_at is not None and finished >= self.intake.resume_at:
            self.intake.resumed.set()
        if self.drain.watching:
            self.drain.nudge()
        self._aim()

    def _aim(self) -> None:
        finished = self._engine.stats.finished
        if self.drain.watching or self._engine.pool.paused:
            self._engine.scheduler.wake_at = 0
            return
        resume = self.intake.resume_at
        at = (
            self._settle_at
            if resume is None or self.intake.resumed.is_set()
            else min(self._settle_at, resume)
        )
        self._engine.scheduler.wake_at = max(at, finished + 1)

    def idle(self) -> None:
        """React to workers that found nothing to do."""
        if self._engine.pool.all_idle and not (self._subscription and self._subscription.more_is_coming):
            self.committer.idle()

    # -- settling ------------------------------------------------------------------------------------------------

    async def _settle(self, settlements: Sequence[Settlement]) -> Sequence[Refused]:
        if self._subscription is None:
            raise SubscriptionLost("the subscription is closed")
        refusals = await self._subscription.settle(settlements)
        self._openings.confirmed(settlements)
        return refusals

    def _refused(self, ledger: Ledger, refusal: Refused) -> None:
        if refusal.positions is None:
            log.warning("%s: partition %s is no longer ours", self._source.name, ledger.partition)
            if self.ledgers.get(ledger.partition) is ledger:
                self.lost([ledger.partition])
            return
        self._engine.stats.refused += len(refusal.positions)
        log.warning("%s: %d message(s) are no longer ours", self._source.name, len(refusal.positions))
        self._engine.work.strike(ledger, ledger.refuse(refusal.positions))

    # -- owner ---------------------------------------------------------------------------------------------------

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        """Take ownership of partitions."""
        self.lost([partition for partition in assignments if partition in self.ledgers])
        for partition, assignment in assignments.items():
            ledger = self._new_ledger(partition, assignment)
            self.ledgers[partition] = ledger
            self._engine.scheduler.open(ledger)
            self._openings.add(ledger)
        self._note_rebalance()
        self._engine.stats.assigned += len(assignments)
        self._engine.stats.resets += sum(assignment.reset for assignment in assignments.values())
        self._engine.tell("assigned", list(assignments))

    def _note_rebalance(self) -> None:
        if self._asked_back is not None:
            stats = self._engine.stats
            stats.rebalances += 1
            stats.rebalance_seconds = self._engine.clock() - self._asked_back
            self._asked_back = None

    def _new_ledger(self, partition: Partition, assignment: Assignment) -> Ledger:
        decode = self._engine.decode
        if self._capabilities.ack == "cumulative":
            if self._capabilities.notes:
                return NotedLedger(partition, assignment, decode, self._engine.written.pop(partition, None))
            return OffsetLedger(partition, assignment, decode)
        return TokenLedger(partition, assignment, decode, both=self._capabilities.ack == "both")

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        """Drain, settle and let go of partitions, by ``deadline`` at the latest."""
        ledgers = [self.ledgers[partition] for partition in partitions if partition in self.ledgers]
        for ledger in ledgers:
            ledger.draining = True
            self.intake.close(ledger.partition)
        now = self._engine.clock()
        if ledgers and not self.closing:
            self._asked_back = now
        await self.drain.finish(ledgers, deadline, deadline - 0.1 * max(deadline - now, 0.0))
        self._let_go(ledgers)

    def _let_go(self, ledgers: Collection[Ledger]) -> None:
        """Close ledgers that had their time to drain, and cancel what has not used it."""
        for ledger in ledgers:
            self._drop(ledger)
        self._engine.work.cancel_orphans()
        self._engine.stats.revoked += len(ledgers)
        self._engine.tell("revoked", [ledger.partition for ledger in ledgers], False)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget partitions: nothing of them is settled."""
        gone = [self.ledgers[partition] for partition in partitions if partition in self.ledgers]
        if not gone:
            return
        self._engine.work.take_unstarted(gone)
        for ledger in gone:
            self._drop(ledger)
        self.drain.nudge()
        self._engine.stats.lost += len(gone)
        self._engine.tell("revoked", [ledger.partition for ledger in gone], True)

    def _drop(self, ledger: Ledger) -> None:
        """Close a ledger; what is still at work on it becomes an orphan."""
        if ledger.closed:
            return
        self.intake.close(ledger.partition)
        if isinstance(ledger, NotedLedger):
            self._engine.written[ledger.partition] = ledger.written
        if self.ledgers.get(ledger.partition) is ledger:
            del self.ledgers[ledger.partition]
        self._engine.work.abandon(ledger)

    # -- draining ------------------------------------------------------------------------------------------------

    async def _drain(self, subscription: Subscription) -> None:
        """Stop gracefully: no more intake, give back what has not started, finish and settle the rest."""
        engine = self._engine
        self.closing = True
        self.drain.withhold(self.ledgers.values())
        with self.drain.within(max(engine.deadline, engine.clock() + FORCED_SETTLE)):
            await self._stop_fetching(subscription)
        self.draining = True
        self.intake.resumed.set()
        ledgers = list(self.ledgers.values())
        for ledger in ledgers:
            ledger.draining = True
        total = max(engine.deadline - engine.clock(), 0.0)
        last = max(engine.deadline, engine.clock() + FORCED_SETTLE)
        with self.drain.within(last):
            await self.drain.finish(ledgers, last, engine.deadline - 0.1 * total)
        self._let_go(ledgers)

    async def _stop_fetching(self, subscription: Subscription) -> None:
        try:
            await subscription.stop_fetching()
        except Exception as error:
            log.warning("%s did not stop to deliver: %s: %s", self._source.name, type(error).__name__, error)
