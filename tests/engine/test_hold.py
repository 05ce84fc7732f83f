"""The hold, in virtual time: a message that only fails does not stop its partition for ever, and no other is given up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.contracts import Message
from pythia_core.errors import Retry
from pythia_core.settings import RetryPolicy
from tests.engine.bench import Bench, Seen, running

LONG = RetryPolicy(attempts=1000, base=2.0, factor=1.0, cap=2.0)  # it is parked nearly always
LOG: dict[str, Any] = {"ack": "cumulative", "retry": LONG, "max_hold": 20.0, "batch_timeout": 1.0}


async def fails(message: Message[Any]) -> None:
    """Fail on the first message, always."""
    if message.raw == b"0":
        raise ValueError("never")


def virtually(
    handler: Callable[[Message[Any]], Awaitable[object]], seconds: float, **options: Any
) -> tuple[Bench, Seen]:
    """Run an engine on three messages for so many seconds, none of which passes."""
    seen = Seen(handler)

    async def main() -> Bench:
        async with running(seen, b"0", b"1", b"2", **{**LOG, **options}) as bench:
            await anyio.sleep(seconds)
            return bench

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001)), seen


def test_a_failing_message_is_given_up_after_max_hold(caplog: pytest.LogCaptureFixture) -> None:
    """H1, H2: not before; then what was done behind it is settled too."""
    early, _ = virtually(fails, 19.0)
    assert (early.dead, early.settled) == ([], [])
    late, _ = virtually(fails, 24.0)
    (letter,) = late.dead
    headers = dict(letter.headers)
    assert letter.value == b"0" and headers["pythia-error"] == "pythia_core.engine.hold.HeldTooLong"
    assert "ValueError: never" in str(headers["pythia-error-message"])
    assert late.settled == [b"0", b"1", b"2"]
    assert late.engine.stats.in_flight == 0


def test_a_message_that_holds_up_its_partition_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """H3: after a minute, by partition and position."""
    virtually(fails, 70.0, max_hold=300.0)
    warnings = [record.getMessage() for record in caplog.records if record.name == "pythia.hold"]
    assert len(warnings) == 1 and "partition 0: nothing past position 0 is settled, for 60 s" in warnings[0]


def test_a_message_that_runs_is_never_given_up() -> None:
    """H1: however long it takes."""

    async def slow(message: Message[Any]) -> None:
        if message.raw == b"0":
            await anyio.sleep(80.0)

    bench, seen = virtually(slow, 50.0)
    assert (bench.dead, len(seen)) == ([], 3)


def test_a_message_behind_another_is_not_given_up_for_it() -> None:
    """H2: the time that it waited for its turn is not its own; it has its time from when it is first."""

    async def second(message: Message[Any]) -> None:
        if message.raw == b"0":
            await anyio.sleep(30.0)
        elif message.raw == b"1":
            raise ValueError("never")

    options: dict[str, Any] = {"order": "partition"}
    early, _ = virtually(second, 30.0 + 19.0, **options)
    assert early.dead == []
    late, _ = virtually(second, 30.0 + 24.0, **options)
    assert [letter.value for letter in late.dead] == [b"1"]


def test_a_delay_that_was_asked_for_is_not_cut_short() -> None:
    """H2: who says when to come again is waited for; what then fails without a delay has had its time."""

    async def later(message: Message[Any]) -> None:
        if message.raw == b"0" and message.attempt == 1:
            raise Retry(delay=40.0)
        await fails(message)

    early, _ = virtually(later, 39.0)
    assert early.dead == []
    late, seen = virtually(later, 44.0)
    assert [letter.value for letter in late.dead] == [b"0"]
    assert seen.count(b"0") >= 2


def test_a_handler_has_its_timeout_before_it_is_given_up() -> None:
    """H2: where a handler may take longer than ``max_hold``, a message is held for as long as that."""
    options: dict[str, Any] = {"handler_timeout": 30.0}
    assert virtually(fails, 29.0, **options)[0].dead == []
    assert len(virtually(fails, 34.0, **options)[0].dead) == 1


def test_where_nothing_is_held_up_nothing_is_given_up() -> None:
    """H1: where each message is acknowledged by itself a failing one is in nobody's way."""
    bench, _ = virtually(fails, 30.0, ack="individual")
    assert bench.dead == []


def test_without_a_place_for_dead_letters_the_partition_stops() -> None:
    """H2, D3: the message is neither lost nor tried for ever; somebody has to look at it."""
    bench, _ = virtually(fails, 24.0, dead_letter=None)
    assert (bench.dead, bench.settled) == ([], [])


def test_a_partition_that_was_full_is_read_on_when_the_message_is_given_up() -> None:
    """N2, N3: the span stops one partition only, and it goes on by itself."""
    seen = Seen(fails)

    async def main() -> None:
        bodies = [b"%d" % number for number in range(100)]
        async with running(seen, *bodies, span=10, batch_size=5, **LOG) as bench:
            await anyio.sleep(15.0)
            assert len(set(seen)) < 20
            await anyio.sleep(15.0)
            assert len(bench.settled) == 100

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
