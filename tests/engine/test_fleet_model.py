"""Several engines at once on brokers of each kind, against what their handlers saw: members come, go, die and are expired.

The model of :mod:`tests.engine.test_model` drives one core by hand. Here whole engines share a broker in memory, with
leases, notes, delivery counts and rebalances as the kind has them, in an event loop whose time is virtual. What is held
against them is what is promised of every broker: nothing is settled undone or lost, keys keep their order, and while
nothing worse happens than that members come and stop, nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import attrs
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Message, Output
from pythia_core.engine.engine import Engine
from pythia_core.errors import BatchError, Reject
from pythia_core.settings import BrakePolicy, RetryPolicy
from tests.engine.bench import make
from tests.engine.virtual import VirtualLoop

KINDS: dict[str, dict[str, Any]] = {
    "queue": {},
    "queue with leases": {"lease_seconds": 5.0, "window": 7},
    "numbers": {"ack": "both", "window": 5},
    "dealt out": {"order_scope": "partition", "rebalances": "incremental", "lease_seconds": 5.0},
    "numbers, dealt out": {
        "ack": "both",
        "order_scope": "partition",
        "rebalances": "eager",
        "revoke_seconds": 4.0,
    },
    "log": {"ack": "cumulative"},
    "log with notes": {"ack": "cumulative", "notes": True, "rebalances": "eager", "revoke_seconds": 4.0},
    "log, incremental": {"ack": "cumulative", "notes": True, "rebalances": "incremental", "window": 6},
    "log, never counted": {"ack": "cumulative", "rebalances": "incremental"},
    "queue, never counted": {"lease_seconds": 5.0, "delivery_count": False},
}
PARTITIONS = 3
MEMBERS = 3
MOST = 40  # messages
ATTEMPTS = 3
DRAIN = 2.0  # seconds, longer than any handler takes
SLOW = 0.5
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EXAMPLES = 2000 if THOROUGH else 100  # of a thirtieth of a second each

SCRIPTS = st.sampled_from(["ok", "ok", "slow", "slow", "slow", "fail", "bad", "reject", "out", "out"])
KEYS = st.sampled_from([None, "a", "b", "c"])
SOON = st.sampled_from([0.001, 0.05, 0.3, 0.3, 1.0])  # seconds
WHICH = st.integers(
    0, MEMBERS - 1
)  # no rule depends on what has become of others, so that a run can be repeated


@attrs.define(eq=False)
class Process:
    """One engine, and how to end it."""

    engine: Engine
    scope: anyio.CancelScope
    task: asyncio.Task[None] | None = None
    going: bool = False  # it was told to stop


class Fleet(RuleBasedStateMachine):
    """Processes on one topic, in any order of what may happen to them."""

    @initialize(
        kind=st.sampled_from(sorted(KINDS)),
        order=st.sampled_from(["key", "key", "partition", "none"]),
        batch=st.booleans(),
        calm=st.booleans(),
        new=st.lists(st.tuples(SCRIPTS, KEYS), min_size=6, max_size=20),
    )
    def start(
        self, kind: str, order: str, batch: bool, calm: bool, new: list[tuple[str, str | None]]
    ) -> None:
        """Make a broker, and begin with one process and some messages."""
        logging.disable()
        self.kind, self.order, self.batch = kind, order, batch
        self.split = "order_scope" in KINDS[kind] or KINDS[kind].get("ack") == "cumulative"
        # Without a note a stop behind a message that waits for its retry repeats what was done behind it.
        self.exact = KINDS[kind].get("ack") != "cumulative" or "notes" in KINDS[kind]
        self.faults = not calm  # whether any may happen
        self.calm = True  # nothing has happened but that members came and stopped
        self.loop = VirtualLoop()
        self.broker = MemoryBroker(clock=self.loop.time, partitions=PARTITIONS)
        self.sent: dict[int, tuple[str, str | None, int]] = {}  # script, key and partition by number
        self.worked: Counter[int] = Counter()
        self.running: Counter[int] = Counter()
        self.processes: list[Process] = []
        self.publish(new)
        self.begin()

    @rule()
    def begin(self) -> None:
        """A process begins, unless there are enough."""
        if len(self.alive()) >= MEMBERS:
            return
        options = {**KINDS[self.kind], "order": self.order, "batch": self.batch, "max_concurrent_tasks": 3}
        options |= {"retry": RetryPolicy(attempts=ATTEMPTS, base=1.0, cap=1.0), "brake": BrakePolicy(share=1)}
        options |= {"batch_timeout": 0.1, "drain_timeout": DRAIN}

        async def live() -> None:
            async with (
                MemoryProducer("orders.dlq", broker=self.broker) as letters,
                MemoryProducer("out", broker=self.broker) as out,
            ):
                with anyio.CancelScope() as scope:
                    engine = make(self.broker, self.handle, dead_letter=letters, sink=out, **options)
                    process = Process(engine, scope)
                    self.processes.append(process)
                    await engine.run()
                if not scope.cancelled_caught:
                    assert engine.stats.in_flight == 0 or not self.calm, "E1"

        task = self.loop.create_task(live())
        self.loop.finish(anyio.sleep(0.0))
        self.processes[-1].task = task

    def do(self, what: Callable[[], object]) -> None:
        """Do something in the event loop."""
        self.loop.call_soon(what)
        self.loop.finish(anyio.sleep(0.0))

    def alive(self) -> list[Process]:
        return [process for process in self.processes if process.task is None or not process.task.done()]

    def pick(self, which: int) -> Process | None:
        alive = self.alive()
        return alive[which % len(alive)] if alive else None

    # -- what messages do ----------------------------------------------------------------------------------------

    async def handle(self, messages: Any) -> Any:
        """Do what the bodies say; what comes behind a failure of its key is left alone, as it will come again."""
        if not isinstance(messages, list):
            return await self.work(messages)
        errors: dict[int, BaseException] = {}
        results: list[Any] = []
        failed: set[Any] = set()
        for index, message in enumerate(messages):
            lane = self.lane(message)
            if lane is not None and lane in failed:
                results.append(None)
                continue
            try:
                results.append(await self.work(message))
            except Exception as error:
                errors[index] = error
                results.append(None)
                failed.add(lane)
        if errors:
            raise BatchError(errors)
        return results

    async def work(self, message: Message[Any]) -> Any:
        """Work on one message."""
        uid, script = uid_of(message.raw), self.sent[uid_of(message.raw)][0]
        self.begun(message, uid)
        self.running[uid] += 1
        try:
            await anyio.sleep(SLOW if script == "slow" else 0.0)
            if script == "reject":
                raise Reject("no")
            if script == "bad" or (script == "fail" and message.attempt == 1):
                raise ValueError(script)
        finally:
            self.running[uid] -= 1
        if script == "out" and not self.batch:  # of a batch whose later message fails nothing is written
            self.worked[uid] += 1
            return Output(None, message.raw, key=self.sent[uid][1])
        self.worked[uid] += 1
        return None

    def lane(self, message: Message[Any]) -> Any:
        return {"key": message.key, "partition": message.partition, "none": None}[self.order]

    def begun(self, message: Message[Any], uid: int) -> None:
        """S1, S2, I3: keys keep their order, on all members together where each partition is one member's."""
        assert not self.calm or not self.exact or not self.worked[uid], (
            f"{message} was done, and nothing happened"
        )
        assert not self.calm or not self.running[uid], f"{message} runs twice"
        if not self.split or self.order == "none" or (self.order == "key" and message.key is None):
            return
        key = message.key if self.order == "key" else None
        dead = self.dead()
        for other, (_, its, partition) in self.sent.items():
            mine = partition == message.partition and (key is None or its == key)
            if mine and other < uid:
                assert self.worked[other] or other in dead, f"{message} runs before {other}"
            if mine and self.calm and other != uid:
                assert not self.running[other], f"{message} runs beside {other}"

    def dead(self) -> set[int]:
        return {uid_of(record.value) for record in self.broker.dead_letters("orders")}

    # -- rules ---------------------------------------------------------------------------------------------------

    @rule(new=st.lists(st.tuples(SCRIPTS, KEYS), min_size=1, max_size=10))
    def publish(self, new: list[tuple[str, str | None]]) -> None:
        """Messages come."""
        for script, key in new[: MOST - len(self.sent)]:
            uid = len(self.sent) + 1
            self.sent[uid] = script, key, -1
            record = self.broker.publish("orders", b"%d" % uid, key=key)
            self.sent[uid] = script, key, record.partition

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.05, 0.3, 0.3, 1.0, 3.0, 12.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.loop.finish(anyio.sleep(seconds))

    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """A process is told to stop; others go on meanwhile."""
        if (process := self.pick(which)) is not None:
            process.going = True
            self.do(process.engine.stop)

    @rule(which=WHICH, seconds=SOON, later=SOON)
    def roll(self, which: int, seconds: float, later: float) -> None:
        """A process begins while others are at work, and one of them stops."""
        self.begin()
        self.wait(seconds)
        self.stop(which)
        self.wait(later)

    @rule(which=WHICH)
    def force(self, which: int) -> None:
        """A process is told twice."""
        if self.faults and (process := self.pick(which)) is not None:
            self.calm, process.going = False, True
            self.do(process.engine.force)

    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        """A process ends wherever it is."""
        if self.faults and (process := self.pick(which)) is not None:
            self.calm = False
            self.do(process.scope.cancel)

    @rule(which=WHICH)
    def expire(self, which: int) -> None:
        """A member's session runs out though it lives: what it had is another's, and what it does changes nothing."""
        if self.faults and (members := self.members()):
            self.calm = False
            self.do(partial(self.broker.expire, members[which % len(members)]))

    def members(self) -> list[Any]:
        group = self.broker.topic("orders").groups.get("default")
        return list(group.members) if group is not None else []

    @rule(
        operation=st.sampled_from(["settle", "settle", "fetch", "write"]),
        lost=st.booleans(),
        times=st.integers(1, 2),
    )
    def fail(self, operation: Any, lost: bool, times: int) -> None:
        """Calls of the broker fail, or their answers are lost."""
        self.calm &= not self.faults
        if self.faults:
            (self.broker.drop_reply if lost else self.broker.fail_next)(operation, times=times)

    @rule(operation=st.sampled_from(["settle", "write"]), seconds=st.sampled_from([0.4, 0.4, 7.0]))
    def hang(self, operation: Any, seconds: float) -> None:
        """The next call is under way for longer than members are waited for, or for less."""
        if self.faults or seconds < SLOW:
            self.calm &= seconds < SLOW
            self.broker.hold(operation, until := asyncio.Event())
            self.loop.call_later(seconds, until.set)

    # -- what is promised ----------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_settled_undone(self) -> None:
        """I5: whatever will never be delivered again was done, is a dead letter, and its output is confirmed."""
        if not hasattr(self, "broker") or "default" not in self.broker.topic("orders").groups:
            return
        settled = {uid_of(record.value) for record in self.broker.settled("orders")}
        assert settled <= {*self.worked, *self.dead()}, "settled undone"
        outputs = {uid_of(record.value) for record in self.broker.records("out")}
        owed = {uid for uid in settled if self.sent[uid][0] == "out" and self.worked[uid] and not self.batch}
        assert owed - self.dead() <= outputs, "settled before its output was confirmed"

    @invariant()
    def dead_letters_have_a_reason(self) -> None:
        """D2: what is good is none, but for one that was alone each time its process ended."""
        for record in self.broker.dead_letters("orders") if hasattr(self, "broker") else ():
            script = self.sent[uid_of(record.value)][0]
            error = str(record.headers["pythia-error"]).rpartition(".")[2]
            assert (script, error) in {("bad", "ValueError"), ("reject", "Reject")} or (
                error == "Crashed" and not self.calm
            )

    @invariant()
    def nobody_ends_of_itself(self) -> None:
        """No engine raises, whatever happens to it."""
        for process in getattr(self, "processes", ()):
            if process.task is not None and process.task.done():
                process.task.result()

    def teardown(self) -> None:
        """I1, I8: once all faults are over everything is worked off, by whoever is there."""
        try:
            if hasattr(self, "processes"):
                self.work_everything_off()
        finally:
            logging.disable(logging.NOTSET)
            if hasattr(self, "loop"):
                self.loop.end(20.0)

    def work_everything_off(self) -> None:
        self.broker.heal()
        for _ in range(60):
            self.wait(5.0)
            self.nobody_ends_of_itself()
            if not [process for process in self.alive() if not process.going]:
                self.begin()
            if "default" in self.broker.topic("orders").groups and len(self.broker.settled("orders")) == len(
                self.sent
            ):
                break
        assert len(self.broker.settled("orders")) == len(self.sent), "something is left for ever"
        assert {*self.sent} == {*self.worked, *self.dead()} & {*self.sent}, "something is lost"
        self.nothing_is_settled_undone()
        for process in self.alive():
            self.do(process.engine.stop)
        self.wait(DRAIN + 12.0)
        self.nobody_ends_of_itself()
        assert self.alive() == [], "a stop does not end"


def uid_of(body: bytes) -> int:
    """Return the number of a message."""
    return int(body)


TestFleet = Fleet.TestCase
TestFleet.settings = hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
