"""Batches against the model of the core: what a handler says of many messages at once is disposed of one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from pythia_core.contracts import Message
from pythia_core.engine.ledger import DONE, RELEASED
from pythia_core.engine.outcomes import HandlerTimeout
from pythia_core.engine.pool import Slot
from pythia_core.errors import BatchError, Reject, Skip
from pythia_core.settings import RetryPolicy, Settings
from tests.engine.byhand import HandBatchPool, HandEngine, Pause
from tests.engine.test_model import ATTEMPTS, LONGEST, WORKERS, Core, Delivery, check

SIZE = 4
FAILURES = [ValueError(), ValueError(), Reject(), Skip()]


class Batches(Core):
    """The same rules, with handlers that take up to four messages."""

    @initialize(
        ack=st.sampled_from(["cumulative", "noted", "individual", "both"]),
        order=st.sampled_from(["key", "key", "partition", "none"]),
        dead_letters=st.booleans(),
        longest=st.just(LONGEST),
        leases=st.sampled_from([True, True, False]),
    )
    def start(
        self, ack: Any, order: Any, dead_letters: bool, longest: int = LONGEST, leases: bool = True
    ) -> None:
        """Build an engine that takes batches."""
        self.said: dict[
            Delivery, object
        ] = {}  # what the handler last said of a message at work: an error or a result
        self.calls: list[list[Delivery]] = []  # what the handler was called with
        self.apart: set[Delivery] = set()  # was in a batch that ran too long
        self.batches: dict[Delivery, list[Delivery]] = {}  # the whole batch of each message at work
        super().start(ack, order, dead_letters, longest, leases)

    def make(self) -> HandEngine:
        """Return an engine that takes batches."""
        hand = HandEngine(
            self.capabilities,
            Settings(order=self.order, retry=RetryPolicy(attempts=ATTEMPTS), max_concurrent_tasks=WORKERS),
            self.handle_batch,
            dead_letters=self.dead_letters,
            batch=SIZE,
        )
        assert isinstance(hand.pool, HandBatchPool)
        hand.pool.disposing = self.before_dispose
        return hand

    # -- running -------------------------------------------------------------------------------------------------

    async def handle_batch(self, messages: list[Message[Any]]) -> object:
        """Run as the handler: check what it is given, and note what it says."""
        part = [self.known[message] for message in messages]
        self.calls.append(part)
        if part[0] in self.batches:
            self.check_again(part)
        else:
            self.check_batch(part)
        try:
            results = await Pause(messages)
        except BatchError as error:
            self.said |= {delivery: error.errors.get(n) for n, delivery in enumerate(part)}
            raise
        except Exception as error:
            divided = len(part) > 1 and not isinstance(error, HandlerTimeout)
            self.said |= dict.fromkeys(part, "undecided" if divided else error)
            raise
        self.said |= zip(part, results or [None] * len(part), strict=True)
        return results

    def check_batch(self, batch: list[Delivery]) -> None:
        """B1, B2, S1, S2: a batch is small enough; of each key it holds the first that wait, all other ones wait."""
        assert len(batch) <= SIZE, "B1"
        assert len(batch) == 1 or not any(d.attempts or d in self.apart for d in batch), "B4: it runs alone"
        for number, delivery in enumerate(batch):
            assert delivery.state == "queued" and not delivery.fenced, f"{delivery} must not start"
            for other in self.known.values():
                if delivery.lane is None or other is delivery or other.state == "ended":
                    continue
                if (other.message.partition, other.lane) != (delivery.message.partition, delivery.lane):
                    continue
                if other in batch[:number]:
                    assert self.later(other, delivery), "B2: they are in their order"
                else:
                    assert other.state == "queued", f"S1: {other} is started too"
                    assert self.later(delivery, other), f"S2: {other} comes first"
        for delivery in batch:
            delivery.state = "running"
            self.batches[delivery] = batch
            self.said[delivery] = "undecided"

    def check_again(self, part: list[Delivery]) -> None:
        """B4: a part of a batch that failed as a whole, without what a failure has voided or what is fenced."""
        batch = self.batches[part[0]]
        places = [batch.index(delivery) for delivery in part]
        assert places == sorted(places)
        before = batch[: places[0]]
        for delivery in part:
            assert delivery.state == "running" and not delivery.fenced, "it is not ours any more"
            assert self.said[delivery] == "undecided", "B4: it failed with others"
            assert delivery.lane is None or not any(
                self.is_failure(self.said[d]) and self.lane(d) == self.lane(delivery) for d in before
            ), "B4: it is void"

    @staticmethod
    def lane(delivery: Delivery) -> Any:
        return delivery.message.partition, delivery.lane

    @staticmethod
    def is_failure(said: object) -> bool:
        return isinstance(said, BaseException) and not isinstance(said, Skip)

    def before_dispose(self, messages: Sequence[Message[Any]]) -> None:
        """B3, B5, B6: each message becomes what the handler said of it, but for what an earlier one of its key voids."""
        batch = [self.known[message] for message in messages]
        failed: set[Any] = set()
        for delivery in batch:
            said = self.said[delivery]
            void = delivery.lane is not None and self.lane(delivery) in failed
            del self.batches[delivery]
            if isinstance(said, HandlerTimeout) and self.together(delivery, batch):
                if not delivery.fenced and not void:
                    self.apart.add(delivery)
                self.put_back(delivery)
            elif delivery.fenced:
                delivery.end(None)
                if self.is_failure(said) and delivery.lane is not None:
                    failed.add(self.lane(delivery))
            elif void or said == "undecided":
                self.put_back(delivery)
            elif isinstance(said, Exception):
                if self.is_failure(said) and delivery.lane is not None:
                    failed.add(self.lane(delivery))
                self.failed(delivery, said)
            elif said is None:
                delivery.end(DONE)
            else:
                delivery.state, delivery.writing = "publishing", "output"

    def together(self, delivery: Delivery, batch: list[Delivery]) -> bool:
        """Return whether it was called together with others when the time was up."""
        return sum(self.said[other] is self.said[delivery] for other in batch) > 1

    def put_back(self, delivery: Delivery) -> None:
        if delivery.fenced:
            delivery.end(None)
        elif delivery.ledger.draining:
            delivery.end(RELEASED if self.tokens else None)
        else:
            delivery.state = "queued"

    def part(self, slot: Slot) -> int:
        """Return how many messages the handler of a worker has now."""
        loop: Any = self.hand.pool.loops[slot]
        while loop.cr_code.co_name != "handle_batch":
            loop = loop.cr_await
        return len(loop.cr_frame.f_locals["part"])

    def at_work(self, data: st.DataObject) -> Slot:
        """Return a worker that has a batch; where all sleep, one wakes up, since few steps would else find any."""
        if not self.hand.pool.running:
            self.wake()
        return data.draw(st.sampled_from(self.running()))

    @precondition(lambda self: self.hand.pool.running or self.engine.scheduler.ready)
    @rule(data=st.data(), results=st.lists(st.sampled_from([None, b"output"]), min_size=SIZE, max_size=SIZE))
    def finish(self, data: st.DataObject, results: list[bytes | None]) -> None:
        """A handler returns, with a result for each message."""
        slot = self.at_work(data)
        self.hand.pool.go(slot, results[: self.part(slot)])

    @precondition(lambda self: self.hand.pool.running or self.engine.scheduler.ready)
    @rule(
        data=st.data(),
        errors=st.dictionaries(st.integers(0, SIZE - 1), st.sampled_from(FAILURES), min_size=1, max_size=2),
    )
    def fail(self, data: st.DataObject, errors: dict[int, Exception]) -> None:
        """A handler names those that failed."""
        slot = self.at_work(data)
        size = self.part(slot)
        self.hand.pool.go(slot, error=BatchError({n: e for n, e in errors.items() if n < size}))

    @precondition(lambda self: self.hand.pool.running or self.engine.scheduler.ready)
    @rule(data=st.data())
    def fail_whole(self, data: st.DataObject) -> None:
        """A handler raises."""
        self.hand.pool.go(self.at_work(data), error=ValueError())

    @precondition(lambda self: self.hand.pool.running or self.engine.scheduler.ready)
    @rule(data=st.data(), error=st.sampled_from(FAILURES[1:]))
    def fail_half(self, data: st.DataObject, error: Exception) -> None:
        """A handler raises, and the first half of what is then divided fails in one place."""
        slot = self.at_work(data)
        self.hand.pool.go(slot, error=ValueError())
        if slot.message is not None:
            self.hand.pool.go(slot, error=BatchError({0: error}))

    @precondition(lambda self: any(slot.active for slot in self.hand.pool.running))
    @rule(data=st.data())
    def overrun(self, data: st.DataObject) -> None:
        """A handler runs too long and is cancelled."""
        slot = data.draw(st.sampled_from([slot for slot in self.running() if slot.active]))
        error = HandlerTimeout("too long")
        self.hand.pool.replace(slot, error)
        self.hand.pool.go(slot, error=error)


TestBatches = Batches.TestCase
TestBatches.settings = hypothesis.settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_what_an_overdue_worker_has_not_run_again_waits_for_another() -> None:
    """B4, B6: the first half is overdue, so the second is put back; it counts no attempt and need not run alone."""
    core = Batches()
    core.start("individual", "none", True)
    core.fetch(0, [(None, 0), (None, 0)])
    core.wake()
    (slot,) = core.running()
    core.hand.pool.go(slot, error=ValueError())
    error = HandlerTimeout("too long")
    core.hand.pool.replace(slot, error)
    core.hand.pool.go(slot, error=error)
    first, second = core.known.values()
    assert (first.state, first.attempts) == ("parked", 1)
    assert (second.state, second.attempts) == ("queued", 0)
    check(core)
    core.teardown()


def halved(order: str, keys: list[str | None], ack: str = "individual") -> tuple[Batches, Slot]:
    """Return a model, and its worker that has the left half of a batch that failed as a whole."""
    core = Batches()
    core.start(ack, order, True)
    core.fetch(0, [(key, 0) for key in keys])
    core.wake()
    (slot,) = core.running()
    core.hand.pool.go(slot, error=ValueError())
    assert [len(part) for part in core.calls] == [len(keys), len(keys) // 2]
    return core, slot


def test_what_is_refused_in_the_middle_of_a_split_is_not_run() -> None:
    """B4: the right half is somebody else's when the left one has ended; nothing of it is handed to the handler."""
    core, slot = halved("none", [None, None])
    first, second = core.known.values()
    second.gone = second.record.done = second.record.settled = True
    core.settle(renew=True)
    assert second.fenced
    core.hand.pool.go(slot)
    assert core.calls == [[first, second], [first]]
    assert (first.state, second.state) == ("ended", "ended")
    check(core)
    core.teardown()


def test_what_is_lost_in_the_middle_of_a_split_is_not_run() -> None:
    """B4: a partition that is lost takes the right half with it."""
    core, slot = halved("none", [None, None])
    first, second = core.known.values()
    core.lose(0)
    core.hand.pool.go(slot)
    assert core.calls == [[first, second], [first]]
    check(core)
    core.teardown()


def test_what_the_left_half_voids_is_not_run() -> None:
    """B3, B4: the first of a key fails in the left half; the second, in the right one, waits behind it instead."""
    core, slot = halved("key", ["a", "b", "b", "c"])
    a, first, second, c = core.known.values()
    core.hand.pool.go(slot, error=BatchError({1: ValueError()}))
    assert core.calls == [[a, first, second, c], [a, first], [c]]
    core.hand.pool.go(slot)
    assert (first.state, second.state) == ("parked", "queued")
    check(core)
    core.teardown()


def test_what_failed_in_another_process_runs_alone() -> None:
    """B4: a note says so, and neither the message before it nor one of another key is in its batch."""
    core, slot = halved("key", ["a", "a"], "noted")
    core.hand.pool.go(slot, [b"output"])
    core.hand.pool.go(slot, error=BatchError({0: ValueError()}))
    first, second = core.known.values()
    assert (first.state, second.state, second.attempts) == ("publishing", "parked", 1)
    core.settle(renew=False)
    core.crash(executed=True)
    core.fetch(0, [("b", 0)])
    core.wake()
    assert [delivery.record.uid for delivery in core.calls[-1]] == [first.record.uid, 3]
    check(core)
    core.teardown()
