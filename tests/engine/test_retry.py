"""Failed messages: how often and when they are tried again, and what flows meanwhile."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Message
from pythia_core.engine.outcomes import decide
from pythia_core.errors import Retry
from pythia_core.settings import RetryPolicy
from tests.engine.bench import Seen, running


async def test_a_message_is_run_exactly_as_often_as_the_policy_says() -> None:
    """D1: then it is a dead letter; each attempt has its number."""
    attempts: list[int] = []

    async def handler(message: Message[Any]) -> None:
        attempts.append(message.attempt)
        raise ValueError("never")

    async with running(handler, b"1", retry=RetryPolicy(attempts=4, base=0.0, cap=0.0)) as bench:
        await bench.until_settled(1)
        assert attempts == [1, 2, 3, 4]
        assert len(bench.dead) == 1
        assert (bench.engine.stats.failures, bench.engine.stats.retried) == (4, 3)


async def test_a_message_that_succeeds_at_last_is_no_dead_letter() -> None:
    """It is settled once."""

    async def handler(message: Message[Any]) -> None:
        if message.attempt < 3:
            raise ValueError

    async with running(handler, b"1") as bench:
        await bench.until_settled(1)
        assert bench.dead == []
        assert bench.engine.stats.settled == 1


@pytest.mark.parametrize("ack", ["individual", "cumulative"])
async def test_a_retry_parks_its_key_while_others_flow(ack: str) -> None:
    """What comes behind the parked message waits; messages of other keys and without one do not."""

    async def script(message: Message[Any]) -> None:
        if message.raw == b"a1" and message.attempt == 1:
            raise Retry(3600)

    seen = Seen(script)
    bodies = [b"a1", b"a2", b"b1", b"-1", b"b2"]
    async with running(seen, *bodies, keys=["a", "a", "b", None, "b"], ack=ack, order="key") as bench:
        await bench.until(lambda: {b"b1", b"b2", b"-1"} <= set(seen), "the others have run")
        await anyio.wait_all_tasks_blocked()
        assert b"a2" not in seen
        (parked,) = bench.engine.parking.messages()
        bench.engine.parking.take(lambda message: message is parked)
        bench.engine.parking.park(parked, 0.0)
        await bench.until_settled(5)
        assert [raw for raw in seen if raw.startswith(b"a")] == [b"a1", b"a1", b"a2"]


def delays(policy: RetryPolicy, errors: list[Exception]) -> list[float]:
    """Return the virtual seconds between the attempts at one message that fails with these errors, then succeeds."""
    times: list[float] = []
    done = trio.Event()

    async def handler(message: Message[Any]) -> None:
        times.append(trio.current_time())
        if len(times) <= len(errors):
            raise errors[len(times) - 1]
        done.set()

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        async with running(handler, b"1", broker=broker, retry=policy) as bench:
            await done.wait()
            await bench.until_settled(1)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_backoff_grows_up_to_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the jitter at its largest the delays are those of the formula, to the instant: by default 200 ms x 4, up to 30 s."""
    monkeypatch.setattr(decide, "__defaults__", (lambda: 1.0,))
    assert delays(RetryPolicy(), [ValueError()] * 7) == pytest.approx([0.2, 0.8, 3.2, 12.8, 30.0, 30.0, 30.0])
    assert RetryPolicy().attempts == 8, "so there is no eighth delay"


def test_retry_says_its_own_delay() -> None:
    """An attempt comes when the handler asked for it; without a delay the policy decides."""
    policy = RetryPolicy(attempts=8, base=0.0, cap=0.0)
    assert delays(policy, [Retry(45.0), Retry(), Retry(0.5)]) == pytest.approx([45.0, 0.0, 0.5])


async def test_retries_asked_for_count_as_attempts() -> None:
    """A handler that asks for ever gets a dead letter in the end."""

    async def handler(message: Message[Any]) -> None:
        raise Retry(0.0, "not yet")

    async with running(handler, b"1") as bench:
        await bench.until_settled(1)
        assert bench.dead[0].headers["pythia-attempts"] == "3"
        assert bench.dead[0].headers["pythia-error-message"] == "not yet"


def test_a_shorter_delay_overtakes_a_longer_one() -> None:
    """One timer serves all: a message parked later, for less time, comes first."""
    seen: list[bytes] = []
    done = trio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.attempt == 1:
            raise Retry(20.0 if message.raw == b"long" else 1.0)
        seen.append(message.raw)
        if len(seen) == 2:
            done.set()

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        async with running(handler, b"long", b"short", broker=broker, max_concurrent_tasks=1) as bench:
            await done.wait()
            await bench.until_settled(2)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
    assert seen == [b"short", b"long"]
