"""The three ways to acknowledge, and what each of them can do beside."""

from itertools import pairwise
from typing import Any

import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Refused, Settlement
from tests.memory.reader import ManualClock, fill, positions, reading

ALL_WAYS: list[dict[str, Any]] = [
    {"ack": "cumulative"},
    {"ack": "individual"},
    {"ack": "both"},
    {"ack": "individual", "order_scope": "partition"},
]
each_way = pytest.mark.parametrize("way", ALL_WAYS, ids=lambda way: "-".join(way.values()))


@each_way
async def test_a_message_arrives_as_it_was_published(way: dict[str, Any]) -> None:
    """Body, key, id, timestamp and headers survive, headers with duplicates, None, binary and empty values."""
    broker = MemoryBroker()
    headers: list[tuple[str, str | bytes | None]] = [
        ("a", "1"),
        ("a", b"\xff\x00"),
        ("empty", ""),
        ("nothing", None),
    ]
    broker.publish("orders", b"\x00body", key="k", headers=headers, id="mine", timestamp=5.0)
    async with reading(broker, **way) as reader:
        (message,) = await reader.fetch()
    assert (message.raw, message.key, message.id, message.timestamp) == (b"\x00body", "k", "mine", 5.0)
    assert list(message.headers.items_all()) == headers
    assert message.headers["a"] == b"\xff\x00"


@each_way
async def test_what_is_not_settled_comes_again_after_close(way: dict[str, Any]) -> None:
    """Messages published before anybody subscribed are read; those out when a reader goes are read by the next."""
    broker = MemoryBroker()
    fill(broker, 3)
    async with reading(broker, **way) as reader:
        assert await reader.values() == [b"0", b"1", b"2"]
        assert await reader.values() == []
    async with reading(broker, **way) as reader:
        assert await reader.values() == [b"0", b"1", b"2"]


@each_way
async def test_groups_each_get_everything(way: dict[str, Any]) -> None:
    """Two groups do not share, and one that comes later starts at the earliest message."""
    broker = MemoryBroker()
    async with reading(broker, consumer_group="a", **way) as first:
        fill(broker, 2)
        assert await first.values() == [b"0", b"1"]
        await first.settle(through=2 if way["ack"] != "individual" else None)
        async with reading(broker, consumer_group="b", **way) as second:
            assert await second.values() == [b"0", b"1"]


async def test_cumulative_commits_a_position() -> None:
    """Everything before ``through`` is settled, nothing after it."""
    broker = MemoryBroker()
    fill(broker, 5)
    async with reading(broker, ack="cumulative") as reader:
        messages = await reader.fetch()
        assert await reader.settle(through=messages[3].position) == []
    assert broker.committed("orders") == 3
    async with reading(broker, ack="cumulative") as reader:
        assert reader.owner.held[0].position == 3
        assert await reader.values() == [b"3", b"4"]


async def test_cumulative_refuses_positions_it_never_delivered() -> None:
    """A commit past what was handed over, or back, is an error in the engine and says so."""
    broker = MemoryBroker()
    fill(broker, 5)
    async with reading(broker, ack="cumulative") as reader:
        await reader.fetch(3)
        with pytest.raises(ValueError, match="through=4"):
            await reader.settle(through=4)
        await reader.settle(through=2)
        with pytest.raises(ValueError, match="through=1"):
            await reader.settle(through=1)
    assert broker.committed("orders") == 2


async def test_a_note_stands_beside_the_committed_position() -> None:
    """It comes back at the next assignment, is replaced by every commit, and may be written without one."""
    broker = MemoryBroker()
    fill(broker, 5)
    async with reading(broker, ack="cumulative", notes=True) as reader:
        assert reader.owner.held[0].note is None
        await reader.fetch()
        await reader.settle(through=1, note="old")
        await reader.settle(note="new")
    async with reading(broker, ack="cumulative", notes=True) as reader:
        assert (reader.owner.held[0].position, reader.owner.held[0].note) == (1, "new")
        await reader.fetch()
        await reader.settle(through=2)
        assert broker.note("orders") is None
        await reader.settle(note="x" * 4096)
        assert broker.note("orders") == "x" * 4096
        with pytest.raises(ValueError, match="4097 characters"):
            await reader.settle(through=3, note="x" * 4097)
        assert (broker.committed("orders"), broker.note("orders")) == (2, "x" * 4096)


async def test_notes_are_kept_only_where_the_source_says_so() -> None:
    """Without the capability a note is refused: whoever wrote it would rely on it."""
    broker = MemoryBroker()
    async with reading(broker, ack="cumulative") as reader:
        with pytest.raises(ValueError, match="notes=True"):
            await reader.settle(note="unkept")
    assert broker.note("orders") is None


async def test_individual_settles_each_message_by_itself() -> None:
    """Done and rejected are gone, released comes back in the running session, the rest when its reader goes."""
    broker = MemoryBroker()
    fill(broker, 5)
    async with reading(broker) as reader:
        p = positions(await reader.fetch())
        assert await reader.settle(beyond=p[1:2], released=p[2:3], rejected=p[3:4]) == []
        assert [record.value for record in broker.settled("orders")] == [b"1", b"3"]
        assert [record.value for record in broker.pending("orders")] == [b"0", b"4"]
        assert await reader.values() == [b"2"]
        assert broker.dead_letters("orders") == []
    assert [record.value for record in broker.waiting("orders")] == [b"0", b"2", b"4"]
    assert broker.committed("orders") == 0


async def test_deliveries_count_what_was_not_released() -> None:
    """A release does not count, a reader that goes does, and the count starts at 1."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as reader:
        (message,) = await reader.fetch()
        assert message.deliveries == 1
        await reader.settle(released=(message.position,))
        (message,) = await reader.fetch()
        assert message.deliveries == 1
    async with reading(broker, delivery_count=True) as reader:
        (message,) = await reader.fetch()
        assert message.deliveries == 2
    async with reading(broker, delivery_count=False) as reader:
        (message,) = await reader.fetch()
        assert message.deliveries is None


async def test_a_suspect_is_counted_only_alone() -> None:
    """M6: with others its count stays, released or not; asked for one, it comes first and is counted."""
    broker = MemoryBroker()
    fill(broker, 2)
    for deliveries in (1, 2, 3, 4, 4):
        async with reading(broker) as reader:
            old, *_ = await reader.fetch(2 if deliveries > 1 else 1)
            assert (old.raw, old.deliveries) == (b"0", deliveries)
    async with reading(broker) as reader:
        await reader.settle(released=positions(await reader.fetch(2)))
    fill(broker, 1)
    for deliveries in (4, 5, 6):
        async with reading(broker) as reader:
            (old,) = await reader.fetch(1)
            assert (old.raw, old.deliveries) == (b"0", deliveries)
    async with reading(broker) as reader:
        (old,) = await reader.fetch(1)
        await reader.settle(released=positions([old]))
        (old,) = await reader.fetch(1)
        assert old.deliveries == 7


async def test_rejected_messages_are_kept_on_request() -> None:
    """They are copied to the dead letters once, however often the rejection is said."""
    broker = MemoryBroker()
    broker.publish("orders", b"bad", key="k", headers=[("h", "1"), ("h", "2")])
    async with reading(broker, keep_rejected=True) as reader:
        p = positions(await reader.fetch())
        await reader.settle(rejected=p)
        assert await reader.settle(rejected=p) == []
    (dead,) = broker.dead_letters("orders")
    assert (dead.value, dead.key, dead.headers.items_all()) == (b"bad", "k", (("h", "1"), ("h", "2")))


async def test_both_settles_up_to_a_number_and_beyond_it() -> None:
    """Delivery numbers start at 1 in each subscription; ``through`` includes the message it names."""
    broker = MemoryBroker()
    fill(broker, 6)
    async with reading(broker, ack="both") as reader:
        p = positions(await reader.fetch())
        assert p == (1, 2, 3, 4, 5, 6)
        await reader.settle(through=2, beyond=(4, 6))
        assert [record.value for record in broker.pending("orders")] == [b"2", b"4"]
    async with reading(broker, ack="both") as reader:
        assert positions(await reader.fetch()) == (1, 2)
        with pytest.raises(ValueError, match="delivery 3"):
            await reader.settle(through=3)


async def test_two_readers_of_a_queue_share_it() -> None:
    """Each message goes to one of them, and each settles only its own."""
    broker = MemoryBroker()
    fill(broker, 4)
    async with reading(broker) as one, reading(broker) as two:
        first, second = await one.fetch(2), await two.fetch()
        assert [m.raw for m in first + second] == [b"0", b"1", b"2", b"3"]
        await two.settle(beyond=positions(first))
        assert len(broker.pending("orders")) == 4


@each_way
async def test_a_settlement_under_an_ended_assignment_is_refused(way: dict[str, Any]) -> None:
    """A zombie changes nothing, whatever it says: not the position, not the note, not the messages."""
    broker = MemoryBroker()
    fill(broker, 3)
    async with reading(broker, **way) as zombie, reading(broker, **way) as other:
        messages = await zombie.fetch()
        id = zombie.owner.held[0].id
        broker.expire(zombie.member)
        assert await other.values() == [b"0", b"1", b"2"]
        through = None if way["ack"] == "individual" else 3
        stale = Settlement(0, id, through, positions(messages), note="zombie")
        assert await zombie.subscription.settle([stale]) == [Refused(0, id, None)]
        assert await other.subscription.settle([stale]) == [Refused(0, id, None)]
        assert len(broker.pending("orders")) == 3


@each_way
async def test_a_closed_subscription_settles_nothing(way: dict[str, Any]) -> None:
    """What it had has gone back, so it is refused."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker, **way) as reader:
        await reader.fetch()
        await reader.subscription.aclose()
        assert await reader.settle(through=1) == [Refused(0, reader.owner.held[0].id, None)]


async def test_a_lease_that_runs_out_gives_the_message_to_another() -> None:
    """The late reader is refused, by position, and its word changes nothing; a renewal moves the end."""
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    fill(broker, 3)
    async with reading(broker, lease_seconds=10.0) as slow, reading(broker, lease_seconds=10.0) as quick:
        p = positions(await slow.fetch())
        clock.now += 9
        await slow.settle(renewed=p[:1], beyond=p[2:])
        assert await quick.fetch() == []
        clock.now += 1
        (message,) = await quick.fetch()
        assert (message.raw, message.deliveries) == (b"1", 2)
        (refused,) = await slow.settle(beyond=p)
        assert refused.positions == (p[1],)
        assert [record.value for record in broker.pending("orders")] == [b"1"]
        (refused,) = await slow.settle(renewed=(p[1],))
        assert refused.positions == (p[1],)


async def test_both_with_leases_refuses_by_number() -> None:
    """``through`` over an expired delivery settles the others and names the one that is no longer ours."""
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    fill(broker, 3)
    async with reading(broker, ack="both", lease_seconds=10.0) as reader:
        await reader.fetch(1)
        clock.now += 5
        await reader.fetch()
        clock.now += 5
        (refused,) = await reader.settle(through=3)
        assert refused.positions == (1,)
        assert [record.value for record in broker.waiting("orders")] == [b"0"]


@each_way
async def test_the_window_bounds_what_is_unsettled(way: dict[str, Any]) -> None:
    """No more is delivered until something is settled."""
    broker = MemoryBroker()
    fill(broker, 9)
    async with reading(broker, window=4, **way) as reader:
        messages = await reader.fetch(3) + await reader.fetch()
        assert [m.raw for m in messages] == [b"0", b"1", b"2", b"3"]
        assert await reader.fetch() == []
        individual = way["ack"] == "individual"
        if individual:
            await reader.settle(beyond=positions(messages[:2]))
        else:
            await reader.settle(through=2)
        assert await reader.values() == [b"4", b"5"]


async def test_no_position_is_used_twice() -> None:
    """A message that comes again has a new position, so that a late word about the old delivery cannot hit it."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as reader:
        seen: list[Any] = []
        for _ in range(3):
            (message,) = await reader.fetch()
            seen.append(message.position)
            await reader.settle(released=(message.position,))
        assert all(one != two for one, two in pairwise(seen))
        await reader.settle(beyond=tuple(seen))
        assert broker.settled("orders") == []
