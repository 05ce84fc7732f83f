"""Killers, outages and crashes in any order, on a real engine and the broker in memory, against what was seen to happen.

The model of :mod:`tests.engine.test_model` drives the core by hand, where nothing runs alone. Here an engine runs in an
event loop whose time is virtual, a rule at a time; what messages do stands in their bodies. It knows no counts and no
notes: it writes down what was at work when a process ended, and judges dead letters by that.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import anyio
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import SUSPECT_AFTER, Message
from pythia_core.contracts.source import SOLO_CRASHES
from pythia_core.engine.notes import read
from pythia_core.errors import BatchError, Reject
from pythia_core.settings import BrakePolicy, RetryPolicy
from tests.engine.bench import make
from tests.engine.virtual import VirtualLoop

ATTEMPTS = 3
MOST = 30  # messages, of which each killer costs half a dozen processes and more
DRAIN = 2.0  # seconds
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EXAMPLES = 2000 if THOROUGH else 30  # of a fifth of a second each
CRASHED = "pythia_core.engine.outcomes.Crashed"
REJECTED = "pythia_core.errors.Reject"
BRAKE = BrakePolicy(window=8, share=0.5, base=0.2, cap=2.0, probes=2)

SCRIPTS = st.sampled_from(["ok", "ok", "ok", "slow", "fail1", "fail2", "bad", "reject", "kill", "kill2"])
KEYS = st.sampled_from([None, "a", "b"])


class Killers(RuleBasedStateMachine):
    """One process at a time works on a topic; it is killed by messages, crashes, stops, and loses its broker."""

    @initialize(
        ack=st.sampled_from(["individual", "both", "cumulative", "cumulative"]),
        order=st.sampled_from(["none", "key"]),
        batch=st.booleans(),
        bounds=st.sampled_from([{}, {"span": 4}, {"messages": 6}, {"span": 3, "messages": 4}]),
    )
    def start(self, ack: str, order: str, batch: bool, bounds: dict[str, int]) -> None:
        """Make a broker, and begin with the first process."""
        logging.disable()
        self.tokens = ack != "cumulative"
        self.options: dict[str, Any] = {"ack": ack, "order": order, "batch": batch, **bounds}
        self.options |= {"brake": BRAKE, "retry": RetryPolicy(attempts=ATTEMPTS, base=1.0, cap=1.0)}
        self.options |= {"batch_timeout": 0.1, "drain_timeout": DRAIN, "max_concurrent_tasks": 4}
        if not self.tokens:
            self.options["notes"] = True
        self.loop = VirtualLoop()
        self.broker = MemoryBroker(clock=self.loop.time)
        self.published = 0
        self.keys: dict[int, str | None] = {}
        self.down = False
        self.epoch = 0  # of a subscription: the next begins when it is lost, or its process ends
        self.sealed: set[int] = set()  # epochs that ended in good order, all of them settled
        self.unheard = False  # something was not settled, or not heard of, in this epoch
        self.worked: set[int] = set()  # messages that a handler was through with
        self.done: dict[int, set[int]] = {}  # the epochs in which a message was done
        self.kills: Counter[int] = Counter()
        self.alone_ends: Counter[int] = Counter()  # ends of a process for which this message only was there
        self.failures: Counter[int] = Counter()  # attempts that count
        self.begin()

    def begin(self) -> None:
        """Begin a process."""
        self.now: dict[int, Message[Any]] = {}
        self.alone: set[int] = set()  # begun with nothing beside it, and perhaps not settled
        self.ended = self.unheard = False
        self.epoch += 1
        self.process = self.loop.create_task(self.live())
        self.run(anyio.sleep(0.0))

    async def live(self) -> None:
        """Run an engine until it stops or is killed."""
        async with MemoryProducer("orders.dlq", broker=self.broker) as letters:
            with anyio.CancelScope() as self.death:
                self.engine = make(self.broker, self.handle, dead_letter=letters, **self.options)
                await self.engine.run()

    def run(self, what: Awaitable[object]) -> None:
        self.loop.finish(what)

    def teardown(self) -> None:
        """Nothing is lost: once all faults are over, each message is done or a dead letter, and all goes on as ever."""
        try:
            if hasattr(self, "process"):
                self.work_everything_off()
                self.run(self.die())
                self.run(anyio.sleep(20.0))
                assert self.process.done()
        finally:
            logging.disable(logging.NOTSET)
            if hasattr(self, "loop"):
                self.loop.end(0.1)

    # -- what messages do ----------------------------------------------------------------------------------------

    async def handle(self, messages: Any) -> None:
        """Do what the bodies say."""
        batch = messages if isinstance(messages, list) else [messages]
        epoch, ids = self.epoch, [uid_of(message.raw) for message in batch]
        for message in batch:
            self.begun(message, len(batch) == 1)
        errors = {}
        try:
            for index, message in enumerate(batch):
                if (error := await self.work(message)) is not None:
                    errors[index] = error
        finally:
            for uid in ids:
                self.now.pop(uid, None)
        self.worked |= {uid for index, uid in enumerate(ids) if index not in errors}
        if not errors:  # else some may run again behind the one of their key that failed
            for uid in ids:
                self.done.setdefault(uid, set()).add(epoch)
        elif isinstance(messages, list):
            raise BatchError(errors)
        else:
            raise errors[0]

    async def work(self, message: Message[Any]) -> Exception | None:
        """Work, and return the error if it fails."""
        uid, script = uid_of(message.raw), script_of(message.raw)
        await anyio.sleep(3.0 if script == "slow" else 0.0)
        if script == "kill" or (script == "kill2" and message.attempt > 1):
            self.kills[uid] += not self.ended
            self.end()
            self.death.cancel()
            await anyio.sleep_forever()
        if script == "reject":
            return Reject("no")
        fails = script == "bad" or (
            script in ("fail1", "fail2", "kill2") and message.attempt <= int(script[-1])
        )
        if fails or self.down:
            self.failures[uid] += not self.engine.brake.engaged
            return ConnectionError("down") if self.down else ValueError("never")
        return None

    def begun(self, message: Message[Any], single: bool) -> None:
        """U2, V2, A1, V1: a suspect runs alone, named by the note; nothing done in good order comes again; keys keep order."""
        uid = uid_of(message.raw)
        assert not self.done.get(uid, set()) & (self.sealed | {self.epoch}), f"{message} was done"
        assert not any(map(is_suspect, self.now.values())), f"{message} runs beside {self.now}"
        if is_suspect(message):
            assert not self.now and single, f"{message} does not run alone, but beside {self.now}"
        if is_suspect(message) and not self.tokens:
            note = read(self.broker.note("orders"), self.broker.committed("orders"))
            assert note is not None and note.solo is not None and note.solo[0] == message.position
        if not self.tokens and self.options["order"] == "key" and (key := self.keys[uid]) is not None:
            before = {other for other in range(1, uid) if self.keys[other] == key}
            assert before <= self.worked | self.dead(), f"{message} runs before {before - self.worked}"
        if single and not self.now:
            self.alone.add(uid)
        else:
            self.alone.discard(uid)
        self.now[uid] = message

    def dead(self) -> set[int]:
        """Return the numbers of the dead letters."""
        return {uid_of(record.value) for record in self.broker.dead_letters("orders")}

    def end(self) -> None:
        """Write down what may be blamed for the end of the process."""
        if self.ended:
            return
        self.ended = True
        blamed = set(self.now)
        if (
            not blamed and self.published
        ):  # between two messages: what has been begun with, or has not been settled
            broker = self.broker
            settled = {uid_of(record.value) for record in broker.settled("orders")}
            pending = (
                {uid_of(record.value) for record in broker.pending("orders")} if self.tokens else self.alone
            )
            blamed = pending - settled
        if len(self.now) <= 1:
            self.alone_ends.update(blamed)

    # -- rules ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.published < MOST)
    @rule(new=st.lists(st.tuples(SCRIPTS, KEYS), min_size=1, max_size=6))
    def publish(self, new: list[tuple[str, str | None]]) -> None:
        """Messages come."""
        for script, key in new:
            self.published += 1
            self.keys[self.published] = key
            self.broker.publish("orders", f"{self.published}:{script}".encode(), key=key)

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.5, 0.5, 3.0, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; a process that was killed is replaced."""
        self.run(anyio.sleep(seconds))
        if self.process.done():
            self.begin()

    @precondition(lambda self: not self.process.done() and not self.ended)
    @rule()
    def crash(self) -> None:
        """The process ends, for no reason of ours."""
        self.end()
        self.run(self.die())
        self.run(anyio.sleep(0.0))

    async def die(self) -> None:
        self.death.cancel()

    @precondition(lambda self: not self.process.done() and not self.ended)
    @rule()
    def stop(self) -> None:
        """The process stops in good order, and another begins."""
        epoch = self.epoch
        if self.unheard:  # then the broker may never hear that it was no crash
            self.alone_ends.update(self.alone | set(self.now))
        self.engine.stop()
        self.run(anyio.sleep(DRAIN + 1.5))
        assert self.process.done()
        if not self.ended and not self.unheard:
            self.sealed.add(epoch)
        self.begin()

    @precondition(lambda self: not self.tokens and not self.process.done() and not self.ended)
    @rule()
    def lose(self) -> None:
        """The subscription is lost, the process lives: on a log that is no crash."""
        self.epoch += 1
        self.alone.clear()
        self.broker.fail_next("fetch")

    @rule(times=st.integers(1, 2), executed=st.booleans())
    def fail_to_settle(self, times: int, executed: bool) -> None:
        """Settlements fail, or are not heard of."""
        self.unheard = True
        executed = executed or self.tokens  # a release that is never made is a delivery that counts
        (self.broker.drop_reply if executed else self.broker.fail_next)("settle", times=times)

    @rule()
    def go_down(self) -> None:
        """What all handlers depend on goes down, or comes back."""
        self.down = not self.down

    # -- invariants ----------------------------------------------------------------------------------------------

    @invariant()
    def dead_letters_are_deserved(self) -> None:
        """U3, V3, K3: by its own crashes alone, its own word, or attempts that count; nobody is one for others."""
        for record in self.broker.dead_letters("orders") if hasattr(self, "broker") else ():
            uid, script = uid_of(record.value), script_of(record.value)
            error = record.headers["pythia-error"]
            if error == CRASHED:
                assert self.alone_ends[uid] >= SOLO_CRASHES, (
                    f"{record.value!r} is blamed for the crashes of others"
                )
            elif error == REJECTED:
                assert script == "reject"
            else:
                assert self.failures[uid] >= ATTEMPTS, f"{record.value!r} has attempts left"

    @invariant()
    def killers_are_found(self) -> None:
        """U3: where deliveries are counted, six processes die of a killer and not one more."""
        if hasattr(self, "kills") and self.tokens:
            assert max(self.kills.values(), default=0) <= SUSPECT_AFTER + SOLO_CRASHES

    # -- the end -------------------------------------------------------------------------------------------------

    def work_everything_off(self) -> None:
        self.broker.heal()
        self.down = False
        for turn in range(200):
            if turn % 10 == 0:  # the brake is released by messages that succeed, and by nothing else
                self.publish([("ok", None)] * 3)
            self.wait(5.0)
            self.dead_letters_are_deserved()
            self.killers_are_found()
            if len(self.broker.settled("orders")) == self.published and not self.engine.brake.engaged:
                break
        assert len(self.broker.settled("orders")) == self.published, "something is left for ever"
        assert set(range(1, self.published + 1)) == self.dead() | self.worked, "something is lost"
        self.wait(1.0)
        assert self.engine.health().reasons == ()
        assert not self.engine.pool.paused and not self.engine.stops


def uid_of(body: bytes) -> int:
    """Return the number of a message."""
    return int(body.split(b":")[0])


def script_of(body: bytes) -> str:
    """Return what a message does."""
    return body.split(b":")[1].decode()


def is_suspect(message: Message[Any]) -> bool:
    """Tell whether a message has to run alone."""
    failure = getattr(message, "_failure", None)
    return (
        (message.deliveries or 0) > SUSPECT_AFTER
        or message._ledger.suspicious
        or (failure is not None and failure.alone)
    )


TestKillers = Killers.TestCase
TestKillers.settings = hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
