"""The brake: an outage of what handlers depend on costs no message its attempts, and everything else does."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Message, Telemetry
from pythia_core.errors import ConfigError, Reject, Retry, Skip
from pythia_core.settings import BrakePolicy, RetryPolicy
from tests.engine.bench import Bench, running

SOON = BrakePolicy(base=0.001, cap=0.01)


class Outage:
    """A handler, for single messages and for batches, that fails while ``down``; it never has more than it may."""

    def __init__(self) -> None:
        self.down = True
        self.calls = 0
        self.attempts: Counter[bytes] = Counter()  # the highest of each message
        self.at_once = 0
        self.most = 0

    async def __call__(self, messages: Any) -> None:
        """Fail or not."""
        self.calls += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        for message in messages if isinstance(messages, list) else [messages]:
            self.attempts[message.raw] = max(self.attempts[message.raw], message.attempt)
        try:
            await anyio.lowlevel.checkpoint()
            if self.down:
                raise ConnectionError("the database is down")
        finally:
            self.at_once -= 1


def engaged(bench: Bench) -> bool:
    """Tell whether the brake is engaged, by what health says."""
    return "brake: " in str(bench.engine.health().reasons)


def failed_attempts(bench: Bench) -> int:
    """Return how many failed attempts are held against what waits."""
    waiting = [*bench.engine.parking.messages(), *bench.engine.scheduler.ready]
    return sum(message.attempt - 1 for message in waiting)


class Listener(Telemetry):
    """Writes down why intake was stopped."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def paused(self, reason: str, paused: bool) -> None:
        """Write it down."""
        self.reasons.append(reason)


@asynccontextmanager
async def braked(handler: Any, count: int, **options: Any) -> AsyncIterator[Bench]:
    """Run an engine on so many messages until its brake is engaged."""
    bodies = [b"%d" % n for n in range(count)]
    async with running(handler, *bodies, **{"brake": SOON, **options}) as bench:
        await bench.until(lambda: engaged(bench), "the brake is engaged")
        yield bench


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("order", ["none", "key"])
@pytest.mark.parametrize("ack", ["individual", "cumulative"])
async def test_an_outage_costs_no_message_its_attempts(batch: bool, order: Any, ack: Any) -> None:
    """K2 to K4, D6: more than 40 probes, with 4 attempts for each message, make no dead letter; when it is over all flows again."""
    handler = Outage()
    keys = [f"k{n % 150}" for n in range(300)]
    options = {"batch": batch, "order": order, "ack": ack, "keys": keys, "batch_size": 100}
    options["retry"] = RetryPolicy(attempts=4, base=1.0, cap=1.0)
    async with braked(handler, 300, **options) as bench:
        await bench.until(lambda: handler.at_once == 0, "what ran has ended")
        before, received, counted = handler.calls, bench.engine.stats.received, failed_attempts(bench)
        bench.send(*[b"later"] * 500)
        await bench.until(lambda: handler.calls > before + 40, "it has probed")
        assert engaged(bench)
        assert "of the last" in bench.engine.health().reasons[0] and bench.engine.health().ready
        assert failed_attempts(bench) <= counted
        assert bench.engine.stats.received < received + 250  # the rest stays in the broker
        handler.down = False
        await bench.until_settled(800)
        assert not engaged(bench)
        assert bench.dead == []
        assert max(handler.attempts.values()) <= 3  # few, of what failed before the brake was engaged


async def test_probes_are_one_at_a_time() -> None:
    """K2: no worker takes a message, and no further one is begun while a probe runs."""
    handler = Outage()
    async with braked(handler, 300) as bench:
        await bench.until(lambda: handler.at_once == 0, "what ran has ended")
        handler.most = 0
        before = handler.calls
        await bench.until(lambda: handler.calls > before + 20, "it has probed")
        assert handler.most == 1


def test_probes_back_off_and_a_success_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2, K4: 0.5 s, 1 s, 2 s and so on up to 10 s; then three without a wait release it."""
    times: list[float] = []

    async def handler(message: Message[Any]) -> None:
        times.append(trio.current_time())
        if times[-1] < 60:
            raise ConnectionError

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        bodies = [b"%d" % n for n in range(200)]
        async with running(handler, *bodies, broker=broker, brake=BrakePolicy()) as bench:
            await trio.sleep(59)
            assert engaged(bench)
            probes = [time for time in times if time > times[0] + 0.4]
            gaps = [later - earlier for earlier, later in pairwise(probes)]
            assert gaps == pytest.approx([1, 2, 4, 8, 10, 10, 10, 10], abs=0.1)
            await trio.sleep(30)
            assert not engaged(bench)
            assert len(bench.settled) == 200 and bench.dead == []

    monkeypatch.setattr(random, "random", lambda: 1.0)
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("error", [Reject(), Skip(), UnicodeDecodeError("utf-8", b"", 0, 1, "bad")])
async def test_what_would_fail_for_ever_does_not_engage_it(error: Exception) -> None:
    """K3: however many are rejected, skipped or undecodable, and they end as ever."""

    async def handler(message: Message[Any]) -> None:
        if isinstance(error, Reject | Skip):
            raise error
        message.body  # noqa: B018

    async with running(handler, *[b"\xff"] * 300, brake=SOON) as bench:
        await bench.until_settled(300)
        assert len(bench.dead) == (0 if isinstance(error, Skip) else 300)
        assert bench.engine.stats.retried == 0


async def test_what_would_fail_for_ever_is_a_dead_letter_during_an_outage_too() -> None:
    """K3: a probe that is rejected says nothing of the outage, and is not held up by it."""
    handler = Outage()

    async def either(message: Message[Any]) -> None:
        if message.raw.startswith(b"bad"):
            raise Reject
        await handler(message)

    async with braked(either, 60) as bench:
        bench.send(b"bad1", b"bad2", b"bad3", b"bad4")
        session = bench.engine._session
        assert session is not None
        bench.engine.stops.discard(bench.engine.brake._reason or "")  # so that they come in
        await bench.until(lambda: len(bench.dead) == 4, "they are dead letters")
        assert bench.engine.brake.engaged
        assert {letter.value[:3] for letter in bench.dead} == {b"bad"}


@pytest.mark.parametrize("every", [2, 3, 10])
async def test_half_or_less_never_engages_it(every: int) -> None:
    """K1: neither at once nor by their retries; what fails for good is dead-lettered."""

    async def handler(message: Message[Any]) -> None:
        if int(message.raw) % every == 1:
            raise ValueError

    async with running(handler, *[b"%d" % n for n in range(1000)], brake=SOON, order="none") as bench:
        await bench.until_settled(1000)
        assert len(bench.dead) == 1000 // every + (1000 % every > 1)
        assert bench.engine.brake._first_failures == len(bench.dead)  # none was forgiven


async def test_outputs_on_their_way_count_as_successes() -> None:
    """K1: a sink that is slow to confirm does not make handlers that succeed look like failures."""

    async def handler(message: Message[Any]) -> bytes:
        if int(message.raw) % 4 == 3:
            raise ValueError
        return message.raw

    broker, bodies = MemoryBroker(), [b"%d" % n for n in range(320)]
    broker.hold("write", confirm := anyio.Event())
    async with (
        MemoryProducer("out", broker=broker) as out,
        running(
            handler, *bodies, broker=broker, sink=out, brake=SOON, telemetry=[listener := Listener()]
        ) as bench,
    ):
        await bench.until(lambda: bench.engine.stats.failures >= 80, "all that fail have failed")
        assert len(bench.engine.publisher.jobs) > 200
        confirm.set()
        await bench.until_settled(320)
        assert len(bench.dead) == 80
        assert listener.reasons == []


async def test_with_nothing_in_flight_it_recovers() -> None:
    """K5: all that failed went elsewhere with their subscription, so one is let in to probe with."""
    handler = Outage()
    async with braked(handler, 200) as bench:
        bench.broker.fail_next("fetch")
        await bench.until(lambda: bench.engine.stats.subscriptions == 2, "it has subscribed anew")
        handler.down = False
        await bench.until_settled(200)
        assert not engaged(bench)


async def test_with_nothing_due_it_recovers() -> None:
    """K5: what is in flight may all have asked for an hour's delay."""
    handler = Outage()

    async def later(message: Message[Any]) -> None:
        if int(message.raw) < 60:
            raise Retry(3600)
        await handler(message)

    handler.down = False
    async with braked(later, 60, max_concurrent_tasks=60) as bench:
        bench.send(*[b"%d" % n for n in range(60, 70)])
        await bench.until_settled(10)
        assert not engaged(bench)


def test_what_fails_for_ever_does_not_keep_it_engaged() -> None:
    """K5: as many as engage it fail and count no attempt; those that come after them release it all the same."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"bad":
            raise ValueError

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        async with running(handler, *[b"bad"] * 60, broker=broker, brake=BrakePolicy()) as bench:
            await trio.sleep(10)
            assert engaged(bench)
            bench.send(*[b"good"] * 1000)
            await bench.until(lambda: len(bench.settled) == 1060, "all are settled", seconds=120)
            assert not engaged(bench)
            assert [letter.value for letter in bench.dead] == [b"bad"] * 60

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    "bounds",
    [
        {"messages": 60},
        {"messages": 60, "batch": True},
        {"span": 60, "ack": "cumulative"},
        {"messages": 60, "ack": "cumulative", "partitions": 2},
        {"span": 60, "ack": "cumulative", "partitions": 2},
        {"messages": 90, "ack": "cumulative", "partitions": 2},
    ],
)
def test_bounds_that_are_used_up_do_not_keep_it_engaged(bounds: dict[str, Any]) -> None:
    """K5, N6: what fails for ever fills them, and some come in beyond them to probe with, though not many at a time."""
    options = dict(bounds)
    partitions = options.pop("partitions", 1)

    async def handler(messages: Any) -> None:
        for message in messages if isinstance(messages, list) else [messages]:
            if message.raw == b"bad":
                raise ValueError

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time, partitions=partitions)
        bad = [b"bad"] * 60
        for body in bad:
            broker.publish("orders", body, partition=0)
        async with running(handler, broker=broker, brake=BrakePolicy(), order="none", **options) as bench:
            await trio.sleep(10)
            assert engaged(bench)
            bench.send(*bad[:4], partition=0)
            bench.send(*[b"good"] * 200, partition=0)
            most = 0
            while len(bench.settled) < 264:
                await trio.sleep(0.1)
                if engaged(bench):
                    most = max(most, bench.engine.stats.in_flight)
                assert trio.current_time() < 600, (bench.engine.health(), bench.engine.stats)
            assert not engaged(bench)
            assert [letter.value for letter in bench.dead] == [b"bad"] * 64
            assert most <= 64 + BrakePolicy().probes

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_few_come_in_beyond_the_bounds() -> None:
    """K5, N6: a backlog behind keys that fail gives nothing to probe with; a few of it come in for each probe, not all."""
    probes = 0

    async def handler(message: Message[Any]) -> None:
        nonlocal probes
        probes += 1
        raise ValueError

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        for number in range(600):
            broker.publish("orders", b"bad", key=f"k{number % 60}")
        async with running(handler, broker=broker, brake=BrakePolicy(), order="key", messages=60) as bench:
            await trio.sleep(300)
            assert engaged(bench) and bench.dead == []
            assert 60 < bench.engine.stats.in_flight <= 60 + BrakePolicy().probes * probes < 600

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("ack", ["individual", "cumulative"])
async def test_a_stop_while_it_is_engaged(ack: Any) -> None:
    """It ends in time; what was not done is given back, and no attempt of it was used up."""
    handler = Outage()
    broker = MemoryBroker()
    async with braked(handler, 300, broker=broker, ack=ack, brake=BrakePolicy()) as bench:
        bench.engine.stop()
        await bench.ended(seconds=5)
        assert bench.settled == [] and bench.dead == []
    handler.down = False
    async with running(handler, broker=broker, ack=ack) as bench:
        await bench.until_settled(300)
        assert bench.dead == []


async def test_a_probe_at_work_is_waited_for_by_a_stop() -> None:
    """O6: its work counts, and no other probe follows."""
    handler, gate = Outage(), anyio.Event()
    probing: list[bytes] = []

    async def hang(message: Message[Any]) -> None:
        if handler.down:
            await handler(message)
        probing.append(message.raw)
        await gate.wait()

    async with braked(hang, 100) as bench:
        await bench.until(lambda: handler.at_once == 0, "what ran has ended")
        handler.down = False
        await bench.until(lambda: probing, "it probes")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        assert not bench.exits
        gate.set()
        await bench.ended(seconds=5)
        assert bench.settled == probing and len(probing) == 1


async def test_overdue_handlers_are_an_outage() -> None:
    """K1, K2: a probe that hangs is cancelled by handler_timeout as any other handler."""
    handler = Outage()

    async def hang(message: Message[Any]) -> None:
        if handler.down:
            await anyio.sleep_forever()
        await handler(message)

    async with braked(hang, 150, handler_timeout=0.02, max_concurrent_tasks=100) as bench:
        assert bench.engine.stats.failures >= 51
        await bench.until(lambda: bench.engine.brake._failures > 2, "probes have failed")
        handler.down = False
        await bench.until_settled(150)
        assert bench.dead == []
        assert len(bench.engine.pool.slots) == 100


async def test_a_share_of_one_turns_it_off() -> None:
    """Then every failure is the message's own."""
    handler = Outage()
    async with running(handler, *[b"%d" % n for n in range(200)], brake=BrakePolicy(share=1)) as bench:
        await bench.until_settled(200)
        assert len(bench.dead) == 200


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0}, {"share": 1.1}, {"window": 0}, {"probes": 0}, {"base": -1}, {"factor": 0.5}, {"cap": 0.1}],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    """The text names the value and what is allowed."""
    with pytest.raises(ConfigError, match="brake: "):
        BrakePolicy(**wrong)


async def test_two_failures_of_one_message_are_one() -> None:
    """K1: only first attempts count, so one message that fails again and again does not engage it."""

    async def handler(message: Message[Any]) -> None:
        raise ValueError

    many = RetryPolicy(attempts=60, base=0.0, cap=0.0)
    async with running(handler, *[b"x"] * 20, retry=many, brake=SOON) as bench:
        await bench.until_settled(20)
        assert bench.engine.stats.failures == 20 * 60
        assert len(bench.dead) == 20


def test_an_outage_longer_than_a_hold_gives_up_nothing() -> None:
    """H2, K3: while the brake is engaged a message that holds up a position is not to blame for that either."""

    async def handler(message: Message[Any]) -> None:
        if trio.current_time() < 80:
            raise ConnectionError

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        bodies, brake = [b"%d" % n for n in range(4)], BrakePolicy(window=4, cap=1.0)  # each probes often
        async with running(
            handler, *bodies, broker=broker, ack="cumulative", brake=brake, max_hold=30.0
        ) as bench:
            await trio.sleep(75)
            assert engaged(bench)
            await trio.sleep(20)
            assert bench.dead == [] and len(bench.settled) == 4

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
