"""What the engine says of itself, and how it comes back when its broker does."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Message
from pythia_core.engine.engine import Engine
from pythia_core.errors import ConfigError, Reject, Retry
from pythia_core.settings import Settings
from tests.engine.bench import Bench, Seen, make, running
from tests.engine.scripted import Scripted


async def ready(bench: Bench) -> None:
    """Wait until the engine is ready."""
    await bench.until(lambda: bench.engine.health().ready, "it is ready")


async def test_ready_only_while_subscribed() -> None:
    """Not before the start and not after the end; alive always, since a restart would not help."""
    engine = make(MemoryBroker(), Seen(), dead_letter=None)
    assert engine.health().live and not engine.health().ready
    async with running(Seen()) as bench:
        await ready(bench)
        assert bench.engine.health().reasons == ()
        bench.engine.stop()
        await bench.ended()
        assert not bench.engine.health().ready


class Gate:
    """Holds who comes until it is opened, and tells that somebody has come."""

    def __init__(self) -> None:
        self.reached, self.open = anyio.Event(), anyio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.open.wait()


async def test_a_fetch_that_raises_ends_the_subscription_and_another_follows() -> None:
    """E3: not ready meanwhile, with the reason in words; nothing is lost and nothing that was settled comes again."""
    broker, seen = MemoryBroker(), Seen()
    async with running(seen, b"1", broker=broker) as bench:
        await bench.until_settled(1)
        broker.hold("subscribe", gate := Gate())
        broker.fail_next("fetch", error=OSError("connection reset"))
        await gate.reached.wait()
        assert not bench.engine.health().ready
        assert "connection reset" in str(bench.engine.health().reasons)  # also while the next attempt is made
        bench.send(b"2")
        gate.open.set()
        await bench.until_settled(2)
        assert bench.engine.health().ready
        assert seen == [b"1", b"2"]
        assert bench.engine.stats.subscriptions == 2
        assert len(broker.members("orders")) == 1


async def test_while_the_broker_is_down_the_reason_is_what_it_said() -> None:
    """An operator reads it in the probe."""
    broker = MemoryBroker()
    broker.fail_next("subscribe", times=1000, error=OSError("no route to host"))
    async with running(Seen(), broker=broker) as bench:
        await bench.until(lambda: "no route to host" in str(bench.engine.health().reasons), "it says so")
        assert not bench.engine.health().ready


async def test_a_handler_at_work_when_the_subscription_is_lost_keeps_its_key() -> None:
    """S5: its message comes again, but not before it has ended, and its late result is not settled."""
    gate = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        await gate.wait()

    broker, seen = MemoryBroker(), Seen(handler)
    async with running(seen, b"1", broker=broker, keys=["k"], ack="cumulative", order="key") as bench:
        await bench.until(lambda: seen, "it runs")
        broker.fail_next("fetch")
        await bench.until(lambda: bench.engine.stats.received == 2, "it has come again")
        await anyio.wait_all_tasks_blocked()
        assert (seen, bench.settled) == ([b"1"], [])
        gate.set()
        await bench.until_settled(1)
        assert seen == [b"1", b"1"]


async def test_subscribing_again_backs_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: with full jitter, from half a second up to ten, for as long as the broker is down."""
    asked: list[tuple[Any, ...]] = []

    def no_wait(*arguments: Any) -> float:
        asked.append(arguments)
        return 0.0

    monkeypatch.setattr("pythia_core.engine.engine.full_jitter", no_wait)
    broker = MemoryBroker()
    broker.fail_next("subscribe", times=5)
    async with running(Seen(), broker=broker) as bench:
        await ready(bench)
    assert [arguments[:4] for arguments in asked] == [(n, 0.5, 2.0, 10.0) for n in range(1, 6)]


async def test_settings_that_cannot_work_end_the_engine() -> None:
    """Only the user can mend them, so it does not try again."""

    async def refuse() -> None:
        raise ConfigError("group 'a' is read by other rules")

    engine = Engine(Scripted(on_subscribe=refuse), Seen(), Settings())
    with pytest.raises(ConfigError, match="other rules"):
        await engine.run()


@pytest.mark.parametrize("state", ["running", "parked", "publishing", "held"])
def test_a_message_that_is_stuck_is_named(state: str) -> None:
    """After a minute health says which message it is, what it does and for how long; the oldest first."""

    async def handler(message: Message[Any]) -> bytes | None:
        if state == "parked":
            raise Retry(3600)
        if state == "held":
            raise Reject
        if state == "running":
            await trio.sleep(3600)
        return b"out"

    async def main() -> None:
        broker = MemoryBroker(clock=trio.current_time)
        broker.hold("write", trio.Event(), times=1000)
        async with MemoryProducer("out", broker=broker) as out:
            options: dict[str, Any] = {"sink": out, "dead_letter": None, "drain_timeout": 0.0}
            async with running(handler, b"1", broker=broker, **options) as bench:
                await trio.sleep(50)
                assert bench.engine.health().stuck == ()
                await trio.sleep(20)
                (stuck,) = bench.engine.health().stuck
                assert stuck.state == state
                why = {"parked": "Retry: retry requested", "held": "Reject: rejected"}
                assert stuck.why == why.get(state, "") and str(stuck).endswith(stuck.why)
                assert "0:" in stuck.message and "Message" in stuck.message
                assert 65 <= stuck.seconds <= 71
                assert bench.engine.health().ready is (state != "held")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
