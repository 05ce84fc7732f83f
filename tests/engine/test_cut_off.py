"""What a stop or a revoke cuts off is given back as it ends: it is no failure and no crash, however often that happens."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import SUSPECT_AFTER, Assignment, Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.notes import read
from pythia_core.settings import Settings
from tests.engine.bench import Seen, running
from tests.engine.scripted import Scripted
from tests.waiting import eventually


class Slow:
    """A handler, for single messages and for batches, that never ends by itself; it knows how its messages came."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, int | None, int]] = []

    async def __call__(self, messages: Any) -> None:
        """Write down, and hang."""
        batch = messages if isinstance(messages, list) else [messages]
        self.came += [(message.raw, message.deliveries, message.attempt) for message in batch]
        await anyio.sleep_forever()


@pytest.mark.parametrize("ack", ["individual", "both"])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("forced", [False, True])
async def test_a_slow_handler_that_deploys_cut_off_is_never_a_suspect(
    ack: Any, batch: bool, forced: bool
) -> None:
    """D5: each time it comes as it came the first time."""
    broker, handler = MemoryBroker(), Slow()
    for body in (b"1", b"2"):
        broker.publish("orders", body)
    for round in range(SUSPECT_AFTER + 1):
        options = {"ack": ack, "batch": batch, "drain_timeout": 60.0 if forced else 0.05}
        async with running(handler, broker=broker, **options) as bench:
            await bench.until(lambda: len(handler.came) == 2 * round + 2, "both are at work")  # noqa: B023
            (bench.engine.force if forced else bench.engine.stop)()
            await bench.ended(seconds=5)
            assert bench.engine.stats.in_flight == 0
            assert bench.engine.stats.failures == 0
    assert sorted(set(handler.came)) == [(b"1", 1, 1), (b"2", 1, 1)]


async def test_a_message_whose_output_is_not_confirmed_in_time_is_given_back() -> None:
    """D5: the broker of the sink is no fault of the message."""
    broker, came = MemoryBroker(), list[int | None]()
    broker.hold("write", anyio.Event(), times=2, topic="out")

    async def echo(message: Message[Any]) -> bytes:
        came.append(message.deliveries)
        return message.raw

    for _ in range(2):
        async with (
            MemoryProducer("out", broker=broker) as out,
            running(echo, broker=broker, sink=out, drain_timeout=0.2) as bench,
        ):
            if not came:
                bench.send(b"1")
            await bench.until(lambda: bench.writing, "the output is on its way")
            bench.engine.stop()
            await bench.ended()
            assert bench.engine.stats.in_flight == 0
    assert came == [1, 1]


async def test_a_handler_that_goes_on_though_cut_off_keeps_its_message() -> None:
    """D5: given back it would be run beside itself; it comes again when its lease ends, as one that may have crashed."""
    gate, came = anyio.Event(), list[int | None]()
    broker = MemoryBroker()

    async def stubborn(message: Message[Any]) -> None:
        came.append(message.deliveries)
        with anyio.CancelScope(shield=True):
            await gate.wait()

    async with running(stubborn, b"1", broker=broker, drain_timeout=0.2) as bench:
        await bench.until(lambda: came, "it is at work")
        bench.engine.stop()
        await bench.until(lambda: not bench.engine.session.ledgers, "it lets go")  # type: ignore[union-attr]
        assert bench.engine.stats.released == 0
        gate.set()
        await bench.ended()
    gate = anyio.Event()
    gate.set()
    async with running(stubborn, broker=broker) as bench:
        await bench.until_settled(1)
    assert came == [1, 2]


async def test_force_settles_what_is_done_though_a_handler_goes_on() -> None:
    """D5, E2: the second wait leaves time for the last settlement."""
    gate, seen = anyio.Event(), Seen()

    async def handler(message: Message[Any]) -> None:
        seen.append(message.raw)
        if message.raw == b"stubborn":
            with anyio.CancelScope(shield=True):
                await gate.wait()

    async with running(handler, b"stubborn", b"1", batch_timeout=3600.0) as bench:
        await bench.until(lambda: len(seen) == 2, "both were begun")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        bench.engine.force()
        await bench.until(lambda: bench.settled == [b"1"], "what is done is settled", seconds=5)
        gate.set()
        await bench.ended()


async def test_what_a_revoke_cuts_off_is_given_back_and_the_rest_goes_on() -> None:
    """D5: by the deadline; other partitions notice nothing."""
    source, handler = Scripted(assignments={0: Assignment(1), 1: Assignment(2)}), Slow()
    engine = Engine(source, handler, Settings(batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"mine", partition=1, first=7)
        source.deliver(b"theirs", partition=0, first=3)
        await eventually(lambda: len(handler.came) == 2, "both are at work")
        await source.owner.revoked([0], anyio.current_time() + 0.5)
        assert source.released == [3]
        assert [slot.message.raw for slot in engine.pool.at_work if slot.message] == [b"mine"]
        engine.force()


async def test_a_stop_that_cuts_a_handler_off_leaves_no_crash_in_the_note() -> None:
    """D5, A3: the same on a source that commits positions, where nothing can be given back."""
    broker, handler = MemoryBroker(), Slow()
    broker.publish("orders", b"1")
    for round in range(SUSPECT_AFTER + 1):
        async with running(handler, broker=broker, drain_timeout=0.2, ack="cumulative", notes=True) as bench:
            await bench.until(lambda: len(handler.came) == round + 1, "it is at work")  # noqa: B023
            note = read(broker.note("orders"), 0)
            assert note is not None and (note.opened, note.attempts) == (1, {})
            bench.engine.stop()
            await bench.ended()
        assert broker.note("orders") is None
    assert set(handler.came) == {(b"1", None, 1)}
