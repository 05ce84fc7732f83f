"""The rate limit in virtual time: never more calls than allowed, in the order they came, and little that only waits."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import ConfigError, Message, TokenBucket
from pythia_core.middleware import RateLimit
from tests.engine.bench import running


@attrs.define(eq=False)
class Bucket(TokenBucket):
    """A shared bucket that answers as the test says: numbers of tokens, waits, errors."""

    answers: list[tuple[int, float] | Exception]
    asked: list[int] = attrs.field(factory=list)

    async def take(self, rate: float, burst: int, most: int) -> tuple[int, float]:
        self.asked.append(most)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def starts(limit: RateLimit, arrivals: list[float]) -> list[tuple[float, int]]:
    """Call a limited handler at these virtual seconds; return when each call began, and which it was."""
    began: list[tuple[float, int]] = []
    zero = 0.0

    async def handler(number: int) -> None:
        began.append((trio.current_time() - zero, number))

    async def call(limited: Any, number: int, at: float) -> None:
        await anyio.sleep(at)
        await limited(number)

    async def main() -> None:
        nonlocal zero
        async with limit:
            zero = trio.current_time()
            limited = limit.wrap(handler)
            async with anyio.create_task_group() as group:
                for number, at in enumerate(arrivals):
                    group.start_soon(call, limited, number, at)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return began


@given(
    st.floats(0.1, 1_000),
    st.integers(1, 20),
    st.lists(st.floats(0, 30), min_size=1, max_size=40),
)
def test_no_interval_has_more_calls_than_allowed(rate: float, burst: int, arrivals: list[float]) -> None:
    """Between any two calls lie the calls between them only if burst and rate allow so many; all are called."""
    began = [at for at, _ in starts(RateLimit(rate, burst), arrivals)]
    assert len(began) == len(arrivals)
    for first, early in enumerate(began):
        for last in range(first, len(began)):
            calls = last - first + 1
            assert calls <= burst + rate * (began[last] - early) + 1e-3


def test_calls_wait_in_their_order_and_no_longer_than_needed() -> None:
    """A burst goes through at once, the rest follows one by one."""
    began = starts(RateLimit(10, burst=3), [number * 0.001 for number in range(6)])
    assert [number for _, number in began] == list(range(6))
    assert [at for at, _ in began] == pytest.approx([0, 0.001, 0.002, 0.1, 0.2, 0.3], abs=0.003)


def test_what_would_have_to_wait_is_not_fetched() -> None:
    """Intake gets what could begin now, and is told when a tenth of the burst is free again."""

    async def main() -> None:
        async with RateLimit(100, burst=50) as limit:
            limited = limit.wrap(anyio.sleep)
            assert limit.admit(500).count == 50
            for _ in range(48):
                await limited(0)
            admission = limit.admit(500)
            assert admission.count == 0
            assert admission.delay == pytest.approx(0.03, abs=0.011)
            assert limit.admit(1).count == 1  # for whoever wants no more than there is
            await anyio.sleep(0.1)
            assert 10 <= limit.admit(500).count <= 12

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_engine_keeps_the_rate() -> None:
    """Fifty messages at twenty a second take the 2.0 seconds that forty of them have to wait for."""
    began: list[float] = []

    async def handler(message: Message[Any]) -> None:
        began.append(trio.current_time())

    async def main() -> None:
        bodies = [b"%d" % number for number in range(50)]
        async with RateLimit(20, burst=10) as limit, running(handler, *bodies, middleware=[limit]) as bench:
            while len(bench.settled) < 50:  # noqa: ASYNC110 - virtual time
                await anyio.sleep(0.01)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
    assert began[-1] - began[0] == pytest.approx(2.0, abs=0.3)


def test_a_shared_bucket_is_asked_for_some_at_once_and_waited_for() -> None:
    """One question brings tokens for many calls; none there means to wait as long as it says."""
    bucket = Bucket([(5, 0.0), (0, 3.0), (5, 0.0)])
    began = starts(RateLimit(100, burst=50, bucket=bucket), [0.0] * 7)
    assert [at for at, _ in began] == pytest.approx([0] * 5 + [3, 3], abs=0.01)
    assert bucket.asked == [5, 5, 5]


def test_a_shared_bucket_out_of_reach_lets_nothing_through() -> None:
    """It is asked until it answers, calls wait meanwhile, and intake is told to wait too."""
    bucket = Bucket([OSError("down"), OSError("down"), (5, 0.0)])
    limit = RateLimit(100, bucket=bucket)
    seen: list[int] = []

    async def main() -> None:
        async with limit, anyio.create_task_group() as group:

            async def call() -> None:
                await limit.wrap(anyio.sleep)(0)
                seen.append(len(bucket.answers))

            group.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            assert limit.admit(100).count == 0
        assert limit.admit(100).count == 100

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert seen == [0]


def test_tokens_that_nobody_used_are_void_after_a_second() -> None:
    """Else what a quiet process has kept would come on top of what all may take."""
    bucket = Bucket([(5, 0.0), (5, 0.0)])
    starts(RateLimit(100, burst=50, bucket=bucket), [0.0, 5.0])
    assert bucket.asked == [5, 5]


@pytest.mark.parametrize(("rate", "burst"), [(0, 0), (-1, 0), (float("inf"), 0), (1, -1)])
def test_values_out_of_bounds_are_refused(rate: float, burst: int) -> None:
    """The error names the field."""
    with pytest.raises(ConfigError, match=r"^(rate|burst) is"):
        RateLimit(rate, burst)
