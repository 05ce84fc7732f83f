"""What `process_batch` is promised: batches by size and time, failures by index, and one poison message found alone."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.contracts import Message, Start
from pythia_core.engine.engine import Engine
from pythia_core.errors import BatchError
from pythia_core.settings import Order, RetryPolicy, Settings
from tests.waiting import eventually

BatchHandler = Callable[[list[Message[Any]]], Awaitable[Any]]


async def run(
    count: int, handler: BatchHandler, *, keys: int = 0, order: Order = "none", **settings: Any
) -> Engine:
    """Run ``handler`` over ``count`` messages whose body is their number, until all are finished."""
    broker = MemoryBroker("batches")
    source = MemoryConsumer(topic="orders", broker=broker).resolve(Start("worker"))
    for number in range(count):
        broker.publish("orders", b"%d" % number, key=str(number % keys) if keys else None)
    place = source.dead_letters()
    assert place is not None
    chosen = {
        "batch_size": 10,
        "batch_timeout": 0.05,
        "retry": RetryPolicy(attempts=3, base=0.001),
        **settings,
    }
    async with place[0] as dead_letters, anyio.create_task_group() as group:
        engine = Engine(
            source, handler, Settings(order=order, **chosen), dead_letter=dead_letters, batch=True
        )
        group.start_soon(engine.run)
        await eventually(lambda: engine.stats.finished == count, "all are finished")
        engine.stop()
    return engine


async def test_a_batch_is_full_or_its_time_is_up() -> None:
    """Twenty-five waiting messages come as 10, 10 and, after batch_timeout, 5."""
    sizes: list[int] = []

    async def handler(batch: Sequence[Message[Any]]) -> None:
        sizes.append(len(batch))

    await run(25, handler)
    assert sizes == [10, 10, 5]


async def test_only_the_named_indexes_fail() -> None:
    """BatchError fails what it names; the rest of the batch is done and does not run again."""
    runs: Counter[int] = Counter()

    async def handler(batch: Sequence[Message[Any]]) -> None:
        runs.update(message.body for message in batch)
        failing = {index: ValueError() for index, message in enumerate(batch) if message.body == 3}
        if failing and runs[3] == 1:
            raise BatchError(failing)

    engine = await run(10, handler)
    assert runs == {number: 2 if number == 3 else 1 for number in range(10)}
    assert (engine.stats.failures, engine.stats.dead_lettered) == (1, 0)


async def test_one_poison_message_is_found_and_dies_alone() -> None:
    """A batch that fails as a whole is run by halves until the one is found; neighbours count no attempt."""
    done: Counter[int] = Counter()

    async def handler(batch: Sequence[Message[Any]]) -> None:
        if any(message.body == 7 for message in batch):
            raise ValueError("poison")
        done.update(message.body for message in batch)

    engine = await run(20, handler)
    assert done == dict.fromkeys(set(range(20)) - {7}, 1)
    assert (engine.stats.dead_lettered, engine.stats.failures) == (1, 3)


async def test_no_key_is_in_two_batches() -> None:
    """B2: with order by key a batch may hold several messages of one, in their order; no other batch has that key."""
    at_work: set[Any] = set()
    seen: dict[Any, list[int]] = {}
    most = 0

    async def handler(batch: Sequence[Message[Any]]) -> None:
        nonlocal most
        keys = {message.key for message in batch}
        most = max(most, len(batch))
        assert not at_work & keys
        at_work.update(keys)
        await anyio.lowlevel.checkpoint()
        for message in batch:
            seen.setdefault(message.key, []).append(message.body)
        at_work.difference_update(keys)

    engine = await run(100, handler, keys=7, order="key", batch_timeout=0.001)
    assert engine.stats.failures == 0
    assert most == 10, "batches are filled though there are fewer keys"
    assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_with_ordering_a_failed_index_voids_the_later_ones_of_its_key() -> None:
    """B3: they run again behind it, without an attempt counted; other keys are done."""
    calls: list[list[tuple[int, int]]] = []

    async def handler(batch: Sequence[Message[Any]]) -> None:
        calls.append([(message.body, message.attempt) for message in batch])
        if len(calls) == 1:
            raise BatchError({2: ValueError()})

    engine = await run(10, handler, keys=2, order="key", batch_timeout=0.01)
    again = [pair for call in calls[1:] for pair in call]
    assert again == [(4, 2), (6, 1), (8, 1)]
    assert engine.stats.failures == 1


async def test_a_result_that_does_not_fit_is_a_failure() -> None:
    """Returning neither None nor one result per message fails the batch, and says what was expected."""

    async def handler(batch: Sequence[Message[Any]]) -> list[str]:
        return ["one too many"] * (len(batch) + 1)

    engine = await run(2, handler)
    assert engine.stats.dead_lettered == 2


async def test_an_index_out_of_range_fails_the_whole_batch() -> None:
    """BatchError with an index that the batch does not have loses nothing: all of it is tried again."""
    calls: list[int] = []

    async def handler(batch: Sequence[Message[Any]]) -> None:
        calls.append(len(batch))
        if len(calls) == 1:
            raise BatchError({99: ValueError()})

    engine = await run(5, handler)
    assert (engine.stats.failures, engine.stats.dead_lettered) == (5, 0)
