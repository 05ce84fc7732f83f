"""Deduplication: done once, never skipped unless it was done, and nothing lost whatever the store does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
import trio
import trio.testing

from pythia_core import BatchError, ConfigError, Headers, Message, Reject, Retry, Seen, Skip
from pythia_core.middleware import Deduplicate, MemoryIdempotencyStore
from tests.engine.bench import running


def message(body: bytes = b"1", identity: str = "a", **options: Any) -> Message[Any]:
    """A message with an identity in its header."""
    return Message(body, headers=Headers([("order", identity)]), **options)


@attrs.define(eq=False, slots=False)
class Faulty(MemoryIdempotencyStore):
    """A store that is out of reach while ``down`` is true."""

    down: bool = False
    asked: int = 0

    def fresh(self) -> Faulty:
        return self

    async def begin(self, identity: str, owner: str, lease: float) -> tuple[Seen, float]:
        self._look()
        return await super().begin(identity, owner, lease)

    async def finish(self, identity: str, keep: float) -> None:
        self._look()
        await super().finish(identity, keep)

    def _look(self) -> None:
        self.asked += 1
        if self.down:
            raise OSError("down")


@attrs.define(eq=False)
class Handler:
    """Writes down what it is called with, and raises or returns what it is told."""

    outcome: Any = None
    calls: list[Any] = attrs.field(factory=list)

    async def __call__(self, work: Any) -> Any:
        self.calls.append([each.raw for each in work] if isinstance(work, list) else work.raw)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


async def test_what_is_done_is_skipped() -> None:
    """A copy with the same identity is settled without work; another identity is worked on."""
    handler = Handler()
    async with Deduplicate(identity="order") as layer:
        once = layer.wrap(handler)
        await once(message(b"1"))
        with pytest.raises(Skip):
            await once(message(b"2"))
        await once(message(b"3", "b"))
        assert (handler.calls, layer.skipped) == ([b"1", b"3"], 1)


async def test_an_engine_settles_copies() -> None:
    """Five messages of which three are copies: all settled, two worked on."""
    handler = Handler()
    bodies = b"1", b"2", b"1", b"1", b"2"
    async with (
        Deduplicate(identity=lambda each: each.raw.decode()) as layer,
        running(handler, *bodies, middleware=[layer]) as bench,
    ):
        await bench.until_settled(5)
        assert sorted(handler.calls) == [b"1", b"2"]
        assert bench.engine.stats.skipped == 3


@pytest.mark.parametrize("outcome", [Retry(), Reject(), ValueError(), KeyboardInterrupt()])
async def test_what_failed_is_forgotten(outcome: BaseException) -> None:
    """A retry, and a replay of the dead letter, run."""
    handler = Handler(outcome)
    async with Deduplicate(identity="order") as layer:
        once = layer.wrap(handler)
        for _ in range(2):
            with pytest.raises(type(outcome)):
                await once(message())
    assert len(handler.calls) == 2


async def test_what_was_cut_off_is_forgotten() -> None:
    """Cancelled at the end of a drain, it is worked on when it comes again."""
    handler = Handler()

    async def endless(work: Any) -> None:
        await anyio.sleep_forever()

    async with Deduplicate(identity="order") as layer:
        with anyio.move_on_after(0.01):
            await layer.wrap(endless)(message())
        await layer.wrap(handler)(message())
    assert handler.calls == [b"1"]


async def test_a_skip_counts_as_done() -> None:
    """The handler decided that there is nothing to do."""
    async with Deduplicate(identity="order") as layer:
        with pytest.raises(Skip, match="nothing to do"):
            await layer.wrap(Handler(Skip("nothing to do")))(message())
        with pytest.raises(Skip, match="done before"):
            await layer.wrap(Handler())(message())


async def test_a_message_with_outputs_is_not_remembered(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows here whether they were written, so to skip it might lose them; it is said once."""
    handler = Handler({"an": "output"})
    async with Deduplicate(identity="order") as layer:
        once = layer.wrap(handler)
        assert [await once(message()) for _ in range(2)] == [{"an": "output"}] * 2
    assert len([record for record in caplog.records if "returns outputs" in record.message]) == 1


async def test_two_do_not_work_on_one_identity_at_a_time() -> None:
    """The second is to come again when the lease of the first has run out, at the latest."""
    going = anyio.Event()

    async def slow(work: Any) -> None:
        going.set()
        await anyio.sleep_forever()

    async with Deduplicate(identity="order", lease=30) as layer, anyio.create_task_group() as group:
        working: Any = layer.wrap(slow)
        group.start_soon(working, message())
        await going.wait()
        with pytest.raises(Retry) as found:
            await layer.wrap(Handler())(message())
        assert found.value.delay == pytest.approx(30, abs=1)
        group.cancel_scope.cancel()


async def test_a_message_without_identity_is_worked_on() -> None:
    """Not deduplicated is better than taken for another one without an identity."""
    handler = Handler()
    async with Deduplicate(identity="no-such-header") as layer:
        once = layer.wrap(handler)
        await once(message())
        await once(message())
    assert len(handler.calls) == 2


def test_memory_forgets_by_time_and_by_number() -> None:
    """Neither an identity that is old nor more than so many are kept."""

    async def main() -> None:
        async with MemoryIdempotencyStore(most=2) as store:
            for identity in "abc":
                await store.finish(identity, 10)
            assert [(await store.begin(each, "me", 1))[0] for each in "bca"] == [
                Seen.DONE,
                Seen.DONE,
                Seen.NEVER,
            ]
            await anyio.sleep(11)
            assert (await store.begin("c", "me", 1))[0] is Seen.NEVER

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_asking_again_after_a_lost_answer_is_no_rival() -> None:
    """The same attempt may ask twice; another one of the same process may not."""
    async with MemoryIdempotencyStore() as store:
        assert (await store.begin("a", "me-1", 10))[0] is Seen.NEVER
        assert (await store.begin("a", "me-1", 10))[0] is Seen.NEVER
        assert (await store.begin("a", "me-2", 10))[0] is Seen.RUNNING
        await store.forget("a", "me-2")
        assert (await store.begin("a", "me-2", 10))[0] is Seen.RUNNING


def test_a_store_out_of_reach_holds_messages_back() -> None:
    """They wait without using up an attempt, intake stops, and both go on when it answers."""
    store, handler = Faulty(down=True), Handler()

    async def main() -> None:
        async with Deduplicate(store, identity="order") as layer, anyio.create_task_group() as group:
            once: Any = layer.wrap(handler)
            group.start_soon(once, message())
            await anyio.sleep(10)
            assert (handler.calls, layer.admit(100).count) == ([], 0)
            store.down = False
            await anyio.sleep(10)
            assert (handler.calls, layer.admit(100).count) == ([b"1"], 100)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert 4 < store.asked < 100


async def test_a_store_out_of_reach_may_be_done_without() -> None:
    """Then work may be repeated, which is counted, and intake goes on."""
    store, handler = Faulty(down=True), Handler()
    async with Deduplicate(store, identity="order", without_store="run") as layer:
        for _ in range(2):
            await layer.wrap(handler)(message())
        assert (len(handler.calls), layer.unchecked, layer.admit(9).count) == (2, 4, 9)


BATCH = [message(b"%d" % number, identity) for number, identity in enumerate("abcd")]


async def done(layer: Deduplicate, *identities: str) -> None:
    """Have these done."""
    for identity in identities:
        await layer.wrap(Handler())(message(b"", identity))


async def test_a_batch_is_called_with_what_is_not_done() -> None:
    """What is done counts as done without being named; a batch of nothing else is not called at all."""
    handler = Handler()
    async with Deduplicate(identity="order") as layer:
        await done(layer, "b")
        once = layer.wrap(handler)
        await once(list(BATCH))
        await once(list(BATCH))
    assert handler.calls == [[b"0", b"2", b"3"]]


async def test_errors_of_a_batch_go_by_its_own_indexes() -> None:
    """What stands before the first failure is remembered, the rest may be void and runs again."""
    reason = ValueError("bad")
    handler = Handler(BatchError({1: reason}))
    async with Deduplicate(identity="order") as layer:
        await done(layer, "a")
        with pytest.raises(BatchError) as found:
            await layer.wrap(handler)(list(BATCH))
        assert found.value.errors == {2: reason}
        handler.outcome = None
        await layer.wrap(handler)(list(BATCH))
    assert handler.calls == [[b"1", b"2", b"3"], [b"2", b"3"]]


async def test_a_batch_with_something_that_is_being_worked_on_comes_again() -> None:
    """All of it, since outputs of the others and a failure cannot be told together; nothing stays taken."""
    handler = Handler()
    async with Deduplicate(identity="order") as layer:
        await layer.store.begin("c", "somebody", 30)
        with pytest.raises(BatchError) as found:
            await layer.wrap(handler)(list(BATCH))
        delays = [found.value.errors[index].delay for index in range(4)]  # type: ignore[attr-defined]
        assert delays == pytest.approx([0, 0, 30, 0], abs=1)
        await layer.store.forget("c", "somebody")
        await layer.wrap(handler)(list(BATCH))
    assert handler.calls == [[b"0", b"1", b"2", b"3"]]


async def test_two_of_a_batch_with_one_identity_do_not_run_together() -> None:
    """One of them might fail, and the other would be taken for done."""
    async with Deduplicate(identity="order") as layer:
        with pytest.raises(BatchError):
            await layer.wrap(Handler())([message(b"1"), message(b"2")])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Deduplicate(keep=0),
        lambda: Deduplicate(lease=-1),
        lambda: Deduplicate(without_store="stop"),  # type: ignore[arg-type]
    ],
)
def test_values_out_of_bounds_are_refused(make: Callable[[], object]) -> None:
    """The error names the field."""
    with pytest.raises(ConfigError, match=r"^(keep|lease|without_store) is"):
        make()
