"""How often the committer tells the broker, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal

import anyio
import pytest
import trio
import trio.testing

from pythia_core.contracts import Assignment, Capabilities
from pythia_core.engine.committer import POSITION_SHARE, POSITION_THRESHOLD, THRESHOLD, Committer
from pythia_core.engine.engine import Engine
from pythia_core.engine.offset_ledger import OffsetLedger
from pythia_core.engine.stats import Stats
from pythia_core.settings import Limits, Settings
from tests.engine.bench import Seen
from tests.engine.scripted import Scripted


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which a minute takes no time."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.001))


class Committed(Scripted):
    """A source that is told when, in seconds since it was made."""

    def __init__(self, ack: Literal["cumulative", "individual"]) -> None:
        super().__init__(Capabilities(ack=ack), {0: Assignment(1, 0)})
        self.times: list[float] = []
        self.began = trio.current_time()
        self.next = 0

    def send(self, count: int = 1) -> None:
        """Deliver so many messages."""
        self.deliver(*[b""] * count, first=self.next)
        self.next += count

    async def settle(self, settlements: Any) -> Any:
        """Write down the time."""
        self.times.append(trio.current_time() - self.began)
        return await super().settle(settlements)


async def run(source: Committed, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an engine on the source while something else is done."""
    engine = Engine(source, Seen(), Settings(limits=Limits(messages=10**6, span=10**6)))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await work()
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("ack", "most"), [("cumulative", 11), ("individual", 50)])
def test_idle_moments_do_not_commit_a_position_each(
    ack: Literal["cumulative", "individual"], most: int
) -> None:
    """C5: a message every 20 ms for a second: the first is committed at once, the others ten times a second."""

    async def main() -> None:
        source = Committed(ack)

        async def trickle() -> None:
            for _ in range(50):
                source.send()
                await trio.sleep(0.02)
            await trio.sleep(0.2)

        await run(source, trickle)
        assert source.times[0] < 0.01
        assert most - 1 <= len(source.times) <= most
        assert source.times[-1] - (0.98 + 0.005) < (0.1 if ack == "cumulative" else 0.001)

    in_virtual_time(main)


def test_waiting_for_what_is_coming_is_no_idle_moment() -> None:
    """C5: nothing is committed before the clock says so, until the source knows of no more."""

    async def main() -> None:
        source = Committed("cumulative")
        source.more_is_coming = True

        async def stream() -> None:
            for _ in range(45):
                source.send()
                await trio.sleep(0.02)
            assert source.times == []
            await trio.sleep(0.2)
            assert source.times == pytest.approx([1.0], abs=0.01)
            source.more_is_coming = False
            source.send()
            await trio.sleep(0.01)

        await run(source, stream)
        assert source.times == pytest.approx([1.0, 1.105], abs=0.01)

    in_virtual_time(main)


def committer(capabilities: Capabilities) -> Committer:
    """Return one whose calls nobody makes."""
    return Committer(
        lambda settlements: (),
        capabilities,
        interval=1.0,
        stats=Stats(),
        clock=lambda: 0.0,
        refused=lambda ledger, refusal: None,
    )


@pytest.mark.parametrize(
    ("capabilities", "partitions", "threshold"),
    [
        (Capabilities(ack="individual"), 1000, THRESHOLD),
        (Capabilities(ack="cumulative"), 1, POSITION_THRESHOLD),
        (Capabilities(ack="cumulative"), 1000, 1000 * POSITION_SHARE),
        (Capabilities(ack="cumulative", window=1000), 1000, 500),
    ],
)
def test_a_commit_of_many_partitions_is_worth_more_messages(
    capabilities: Capabilities, partitions: int, threshold: int
) -> None:
    """What a commit costs grows with its partitions, and with it the messages it waits for; never past half a window."""
    tried = committer(capabilities)
    tried.dirty = {OffsetLedger(n, Assignment(id=1, position=0), lambda m: None) for n in range(partitions)}
    assert tried.threshold == threshold


def test_a_position_waits_for_more_messages_than_a_list_of_them() -> None:
    """C5: a call that names one position is as large for 50,000 messages as for one."""

    async def main() -> None:
        source = Committed("cumulative")
        source.more_is_coming = True

        async def flood() -> None:
            for _ in range(10):
                source.send(POSITION_THRESHOLD // 10 - 1)
                await trio.sleep(0.01)
            assert source.times == []
            source.send(10)
            await trio.sleep(0.01)
            assert len(source.times) == 1

        await run(source, flood)

    in_virtual_time(main)
