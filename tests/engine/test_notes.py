"""Notes: the text itself, by properties, and what it is for: a stop repeats nothing that was done behind a slow message."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Assignment, Capabilities, Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.ledger import DONE
from pythia_core.engine.noted_ledger import NotedLedger
from pythia_core.engine.notes import LONGEST, Note, bare, read, write
from pythia_core.errors import Retry
from pythia_core.settings import RetryPolicy, Settings
from tests.engine.bench import Seen, make, running
from tests.engine.scripted import Scripted
from tests.waiting import eventually

BASES = st.integers(0, 1 << 62)
LOG: dict[str, Any] = {"ack": "cumulative", "notes": True}
NOTED = Capabilities(ack="cumulative", order_scope="partition", notes=True)


@st.composite
def notes(draw: st.DrawFn, longest: int = 300) -> Note:
    """Draw a note whose offsets lie within ``longest`` of its base."""
    base = draw(BASES)
    offsets = st.integers(0, longest - 1)
    done = bytearray(longest)
    for offset in draw(st.sets(offsets)):
        done[offset] = 1
    attempts = draw(st.dictionaries(offsets, st.integers(1, 255)))
    solo = draw(st.none() | st.tuples(BASES, st.integers(0, 100)))
    return Note(
        base,
        bytes(done.rstrip(b"\0")),
        {base + offset: count for offset, count in attempts.items()},
        draw(st.integers(0, 1000)),
        solo,
    )


@given(notes())
def test_what_is_written_is_read(note: Note) -> None:
    """T1: a note that is not too long comes back as it was."""
    text = write(note)
    assert read(text, note.base) == note


@given(BASES, st.integers(1, 1000))
def test_a_note_that_speaks_of_no_message_is_the_same_in_short(base: int, opened: int) -> None:
    """T1: what is made with a tenth of the work is what the whole would have made."""
    assert bare(base, opened) == write(Note(base, opened=opened))


@given(st.text() | st.from_regex(r"1\.\d+\.\d+\.(\d+x\d+)?\.[\w-]*\.[\w-]*", fullmatch=True), BASES)
@example("1.0.0...eA", 0)
@example("1.0.0...A", 0)
@example("1.0.0..\u0663.", 0)
@example("1.9999999999999999999999.0...", 0)
def test_reading_never_raises(text: str, base: int) -> None:
    """T2: whatever stands beside a position."""
    note = read(text, base)
    assert note is None or note.base == base


@given(notes(), st.data())
def test_a_damaged_text_never_calls_more_done(note: Note, data: st.DataObject) -> None:
    """T2: a character that is changed or cut off makes nothing done that was not; the check sums see to it."""
    text = write(note)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.sampled_from(["", "A", "0", "9", "."])) + text[at + 1 :]
    found = read(damaged, note.base)
    assert found is None or found.done in (b"", note.done)


def test_a_text_of_another_position_says_nothing() -> None:
    """T2: what is beside a position that was set by hand, or by another version, is not believed."""
    text = write(Note(7, b"\0\1", opened=1))
    assert read(text, 7) is not None
    assert [read(text, 8), read(text, None), read(None, 7), read("", 7), read("2" + text[1:], 7)] == [
        None
    ] * 5


@given(notes(5000))
def test_a_text_is_never_too_long(note: Note) -> None:
    """T3: whatever is in it."""
    assert len(write(note)) <= LONGEST


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_ten_thousand_done_offsets_fit(share: float) -> None:
    """T3: the span of a partition fits into less than half of what Kafka keeps, in whatever pattern it is done."""
    chance = random.Random(7)
    done = bytes(chance.random() < share for _ in range(9_999)) + b"\1"
    text = write(Note(10**12, done, opened=1))
    assert len(text) <= 1_720
    assert read(text, 10**12) == Note(10**12, done, opened=1)


def test_what_is_far_off_is_left_out_first() -> None:
    """T3: of too much the part next to the position stays, done and attempts alike, and the counts always do."""
    chance = random.Random(7)
    done = bytes(chance.random() < 0.5 for _ in range(200_000))
    attempts = {offset: 1 + offset % 7 for offset in range(0, 200_000, 3)}
    note = Note(0, done, attempts, opened=2, solo=(5, 1))
    found = read(write(note), 0)
    assert found is not None
    assert (found.opened, found.solo) == (2, (5, 1))
    assert len(found.done) > 4_000 and done.startswith(found.done)
    end = found.end
    assert found.attempts and found.attempts == {at: n for at, n in attempts.items() if at < end}


# -- the engine ----------------------------------------------------------------------------------------------------


def numbers(count: int) -> list[bytes]:
    """Return bodies."""
    return [b"%d" % number for number in range(count)]


class Parks(Seen):
    """A handler that puts the first message off for an hour, each time it comes."""

    def __init__(self) -> None:
        super().__init__(self.park)
        self.attempts: list[int] = []

    async def park(self, message: Message[Any]) -> None:
        """Put the first one off."""
        if message.raw == b"0":
            self.attempts.append(message.attempt)
            raise Retry(delay=3600.0)


async def test_a_stop_repeats_nothing_behind_a_parked_message() -> None:
    """A1, A2: the next process runs the parked message, as its second attempt, and what is new; nothing else."""
    broker, first, second = MemoryBroker(), Parks(), Parks()
    async with running(first, *numbers(50), broker=broker, **LOG) as bench:
        await bench.until(lambda: len(first) == 50, "all have run")
        bench.engine.stop()
        await bench.ended()
    assert bench.settled == []
    async with running(second, b"new", broker=broker, **LOG) as bench:
        await bench.until(lambda: b"new" in second and bench.parked == 1, "the new one has run")
        assert sorted(second) == [b"0", b"new"]
        assert (first.attempts, second.attempts) == ([1], [2])
        stats = bench.engine.stats
        assert (stats.received, stats.finished, stats.released) == (51, 50, 0)
    third = Seen()
    async with running(third, broker=broker, **LOG) as bench:
        await bench.until_settled(51)
        assert third == [b"0"]


async def test_a_stop_repeats_nothing_behind_a_message_that_is_slow() -> None:
    """A1: a handler that outlasts the drain is run again; what was done behind it is not."""
    broker, slow = MemoryBroker(), anyio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"0":
            await slow.wait()

    first, second = Seen(handler), Seen()
    async with running(first, *numbers(50), broker=broker, drain_timeout=0.2, **LOG) as bench:
        await bench.until(lambda: len(first) == 50, "all have run")
        bench.engine.stop()
        await bench.ended()
    async with running(second, broker=broker, **LOG) as bench:
        await bench.until_settled(50)
        assert second == [b"0"]


async def test_what_was_not_fetched_again_stands_in_the_next_note() -> None:
    """A1: a process that stops before it has fetched all that its note speaks of hands the rest on."""
    broker, first, second, third = MemoryBroker(), Parks(), Parks(), Seen()
    async with running(first, *numbers(50), broker=broker, **LOG) as bench:
        await bench.until(lambda: len(first) == 50, "all have run")
        bench.engine.stop()
        await bench.ended()
    async with running(second, broker=broker, span=10, batch_size=10, **LOG) as bench:
        await bench.until(lambda: bench.parked, "the first is parked again")
        bench.engine.stop()
        await bench.ended()
        assert bench.engine.stats.received < 50
    async with running(third, broker=broker, **LOG) as bench:
        await bench.until_settled(50)
        assert (second, third) == ([b"0"], [b"0"])


@pytest.mark.parametrize("rebalances", ["eager", "incremental"])
async def test_a_revoke_repeats_nothing_behind_a_parked_message(rebalances: str) -> None:
    """A1, A2: whoever gets the partition next knows what was done in it, and how often the parked one has failed."""
    broker, first, second = MemoryBroker(partitions=2), Parks(), Parks()
    options: dict[str, Any] = {**LOG, "rebalances": rebalances}
    async with running(first, broker=broker, **options) as one:
        for partition in (0, 1):
            one.send(*numbers(20), partition=partition)
        await one.until(lambda: len(first) == 40, "all have run")
        async with running(second, broker=broker, **options) as two:
            await two.until(lambda: second, "the parked one came over")
            await two.until(lambda: two.parked == 1, "it is parked again")
            two.send(b"new", partition=0)
            two.send(b"new", partition=1)
            await two.until(lambda: [*first, *second].count(b"new") == 2, "both run on")
            again = [*first[40:], *second]
            assert set(again) == {b"0", b"new"}
            assert second.attempts == [2]


async def test_a_kill_repeats_only_what_was_done_after_the_last_note() -> None:
    """A4: a note alone is settled at the usual interval, so a process that just ends loses an interval at the most."""
    broker, first, second = MemoryBroker(), Parks(), Seen()
    async with running(first, *numbers(20), broker=broker, **LOG) as bench:
        await bench.until(lambda: len(first) == 20 and done_in_note(broker) == 19, "the note says so")
        broker.fail_next("settle", times=1_000_000)  # what the process says from here on is never heard
        bench.send(*[b"late %d" % n for n in range(5)])
        await bench.until(lambda: len(first) == 25, "the late ones have run too")
    broker.heal()
    async with running(second, broker=broker, **LOG) as bench:
        await bench.until_settled(25)
        assert sorted(second) == sorted([b"0", *[b"late %d" % n for n in range(5)]])


def done_in_note(broker: MemoryBroker) -> int:
    """Return how many offsets the note beside the committed position calls done."""
    if not broker.topic("orders").groups:
        return 0
    note = read(broker.note("orders"), broker.committed("orders"))
    return note.done.count(1) if note else 0


@pytest.mark.parametrize(
    "note", [write(Note(3, b"\0\1\1\1")), "damaged", write(Note(0, b"\0\1\1\1"))[:-2], "1.0.0.0"]
)
async def test_a_note_that_is_stale_or_damaged_is_not_believed(note: str) -> None:
    """T2: everything is run, and the note is replaced."""
    source, seen = Scripted(NOTED, {0: Assignment("a", 0, note)}), Seen()
    engine = Engine(source, seen, Settings(batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(*numbers(6))
        await eventually(lambda: len(seen) == 6, "all have run")
        engine.stop()
    assert (source.settlements[-1].through, source.settlements[-1].note) == (6, None)


async def test_without_notes_a_note_is_never_made_nor_read() -> None:
    """A source that keeps none is settled as ever, whatever its assignment says."""
    source = Scripted(
        Capabilities(ack="cumulative"), {0: Assignment("a", 0, write(Note(0, b"\1\1\1", opened=5)))}
    )
    parks = Parks()
    engine = Engine(source, parks, Settings(batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"a", *numbers(3))
        await eventually(lambda: source.settlements and len(parks) == 4, "all have run")
        engine.stop()
    assert [(each.through, each.note) for each in source.settlements] == [(1, None)]


async def test_an_assignment_says_at_once_that_it_has_opened_its_position() -> None:
    """A3: before anything has come; one that ended in good order says that it has."""
    source = Scripted(NOTED, {0: Assignment("a", 7, write(Note(7, b"\0\1", {7: 3}, opened=2)))})
    engine = Engine(source, Seen(), Settings(batch_timeout=60.0))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.settlements, "it has said so")
        engine.stop()
    opened, left = (read(settlement.note, 7) for settlement in source.settlements)
    assert (opened, left) == (Note(7, b"\0\1", {7: 3}, opened=3), Note(7, b"\0\1", {7: 3}))


async def test_an_assignment_says_so_at_once_while_workers_are_busy() -> None:
    """A3: no idle moment and no interval is waited for."""
    source, seen = Scripted(NOTED, {0: Assignment("a", 0)}), Seen(lambda _: anyio.sleep_forever())
    engine = Engine(source, seen, Settings(batch_timeout=60.0))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.settlements, "it has said that it is there")
        source.deliver(b"slow")
        await eventually(lambda: seen, "a handler is at work")
        source.owner.assigned({1: Assignment("b", 7)})
        await eventually(lambda: len(source.settlements) > 1, "it has said so of the other one too")
        engine.force()
    told = source.settlements[1]
    assert (told.partition, told.note) == (1, write(Note(7, opened=1)))


async def test_the_count_begins_anew_when_the_position_moves() -> None:
    """A3: then whatever ended the processes before is behind it."""
    source = Scripted(NOTED, {0: Assignment("a", 0, write(Note(0, opened=2)))})
    parks = Parks()
    engine = Engine(source, parks, Settings(batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.settlements, "it has said that it is there")
        source.deliver(b"a", b"b", *numbers(2))
        await eventually(lambda: source.settlements[-1].through == 2, "the position has moved")
        note = read(source.settlements[-1].note, 2)
        engine.stop()
    assert read(source.settlements[0].note, 0) == Note(0, opened=3)
    assert note is not None and note.opened == 1
    assert read(source.settlements[-1].note, 2) == Note(2, b"\0\1", {2: 1})


@pytest.mark.parametrize("executed", [True, False])
async def test_a_note_that_was_not_heard_of_is_settled_again(executed: bool) -> None:
    """A4, L5: whether the broker has it or not."""
    broker, first, second = MemoryBroker(), Parks(), Parks()
    async with running(first, *numbers(20), broker=broker, **LOG) as bench:
        await bench.until(lambda: len(first) == 20 and done_in_note(broker) == 19, "the note says so")
        (broker.drop_reply if executed else broker.fail_next)("settle")
        bench.send(b"20", b"21")
        await bench.until(lambda: done_in_note(broker) == 21, "the note says so")
        bench.engine.stop()
        await bench.ended()
    note = read(broker.note("orders"), 0)
    assert note == Note(0, b"\0" + b"\1" * 21, {0: 1})
    async with running(second, broker=broker, **LOG) as bench:
        await bench.until(lambda: bench.parked == 1, "the first is parked again")
        assert second.attempts == [2]


async def test_attempts_of_a_stop_count_towards_the_dead_letter() -> None:
    """A2: three attempts are three attempts, in however many processes they are made."""
    broker, seen = MemoryBroker(), 0

    async def handler(message: Message[Any]) -> None:
        nonlocal seen
        seen += 1
        raise ValueError("never")

    retry = RetryPolicy(attempts=3, base=3600.0, cap=3600.0)
    broker.publish("orders", b"1")
    for _ in range(2):
        async with running(handler, broker=broker, retry=retry, **LOG) as bench:
            await bench.until(lambda: bench.parked == 1, "it is parked")
            bench.engine.stop()
            await bench.ended()
    async with running(handler, broker=broker, retry=retry, **LOG) as bench:
        await bench.until(lambda: bench.dead, "it is a dead letter")
        assert (seen, dict(bench.dead[0].headers)["pythia-attempts"]) == (3, "3")


async def test_a_position_is_not_moved_by_what_a_note_calls_done_but_never_comes() -> None:
    """L1, L6: over gaps, which compaction makes, offsets stay right, in the note as in the position."""
    source, parks = Scripted(NOTED, {0: Assignment("a", 0)}), Parks()
    engine = Engine(source, parks, Settings(batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"0", b"1", first=4)
        await eventually(lambda: len(parks) == 2, "two have run")
        source.deliver(b"2", b"3", first=9)
        await eventually(lambda: len(parks) == 4, "four have run")
        engine.stop()
    assert source.settlements[-1].through == 4
    note = read(source.settlements[-1].note, 4)
    assert note == Note(4, bytes([0, 1, 0, 0, 0, 1, 1]), {4: 1})


async def test_a_subscription_that_is_lost_is_no_crash() -> None:
    """A3: the process lives, and finds what it wrote itself; the end of another process raises the count."""
    broker, parks = MemoryBroker(), Parks()
    await stop_abruptly(broker, parks)
    async with running(parks, broker=broker, retry=RetryPolicy(attempts=9), **LOG) as bench:
        await bench.until(lambda: parks.attempts == [1, 2] and bench.parked, "it is parked")
        await bench.until(lambda: attempts_in_note(broker) == {0: 2}, "the note says so")
        assert opened_in_note(broker) == 2
        broker.fail_next("fetch")
        await bench.until(lambda: parks.attempts == [1, 2, 3] and bench.parked, "it is parked again")
        await bench.until(lambda: attempts_in_note(broker) == {0: 3}, "the note says so")
        assert opened_in_note(broker) == 2


async def stop_abruptly(broker: MemoryBroker, parks: Parks) -> None:
    """Let a process park a message, and end without a word after its note was written."""
    engine = make(broker, parks, dead_letter=None, **LOG)
    broker.publish("orders", b"0")
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: attempts_in_note(broker) == {0: 1}, "the note says that it failed")
        group.cancel_scope.cancel()


def noted(broker: MemoryBroker) -> Note | None:
    """Return the note beside the committed position."""
    if not broker.topic("orders").groups:
        return None
    return read(broker.note("orders"), broker.committed("orders"))


def opened_in_note(broker: MemoryBroker) -> int:
    """Return how often the committed position was opened."""
    return note.opened if (note := noted(broker)) else 0


def attempts_in_note(broker: MemoryBroker) -> dict[int, int]:
    """Return what the note says of failed attempts."""
    return dict(note.attempts) if (note := noted(broker)) else {}


def assigned(position: int, text: str | None, lost: NotedLedger | None = None) -> NotedLedger:
    """Return the ledger of an assignment, to the process that has lost another one or to one that lost none."""
    before = None if lost is None else lost.written
    return NotedLedger(0, Assignment("new", position, text), lambda message: message.raw, before)


def settle(ledger: NotedLedger) -> str | None:
    """Settle a ledger, and return the note."""
    settlement = ledger.settlement()
    assert settlement is not None
    ledger.settled(settlement)
    return settlement.note


def in_doubt(ledger: NotedLedger) -> str | None:
    """Settle a ledger without hearing of it, and return the note."""
    settlement = ledger.settlement()
    assert settlement is not None
    return settlement.note


@pytest.mark.parametrize("how", ["confirmed", "executed", "not executed", "nothing said", "twice"])
def test_what_a_process_finds_of_its_own_is_no_crash(how: str) -> None:
    """A3, A5: whatever it knows of its last settlements. What it finds of others is."""
    first = assigned(5, write(Note(5, opened=2, solo=(6, 1))))
    assert (first.opened, first.solo) == (3, (6, 1))
    text = settle(first)
    first.trying = 6, 2
    last = text if how == "nothing said" else settle(first) if how == "confirmed" else in_doubt(first)
    found = text if how == "not executed" else last
    again = assigned(5, found, first)
    assert (again.opened, again.solo, again.suspicious) == (3, (6, 1), True)
    if how == "twice":
        in_doubt(again)
        again = assigned(5, found, again)
        assert (again.opened, again.solo) == (3, (6, 1))
    by_another = assigned(5, found)
    assert (by_another.opened, by_another.solo) == (4, (6, 1) if found == text else (6, 2))
    assert assigned(5, settle(by_another), again).opened == 5


def test_a_position_that_has_moved_meanwhile_was_opened_once() -> None:
    """A3: though nobody heard that it moved."""
    first = assigned(5, None)
    settle(first)
    first.admit([Message[Any](b"", position=5)], 6)
    first.state[0] = DONE
    again = assigned(6, in_doubt(first), first)
    assert again.opened == 1


def test_an_end_in_good_order_is_found_as_such() -> None:
    """A3: and begins at 1, also where other things stand in the note."""
    first = assigned(5, write(Note(5, b"\0\1", opened=2)))
    settle(first)
    first.leaving = True
    assert assigned(5, settle(first), first).opened == 1
