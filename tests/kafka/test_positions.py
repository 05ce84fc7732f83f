"""How far a group has got, shown and moved: Kafka's own tool says the same, and its own broker refuses."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import pytest

from pythia_core import ConfigError, Positions, Seek, Start
from pythia_kafka import KafkaConsumer
from tests.kafka import driving
from tests.kafka.driving import MakeTopic, Member, Members, Publisher
from tests.servers.kafka import KafkaServer


@asynccontextmanager
async def positions(server: KafkaServer, topic: str, **options: Any) -> AsyncIterator[Positions]:
    """Open the positions of the group that members of a topic are in."""
    source = KafkaConsumer(
        topic, bootstrap_servers=server.address, consumer_group=f"{topic}-workers", **options
    )
    async with source.resolve(Start(worker="w")).positions() as found:
        yield found


async def moved(found: Positions, seek: Seek, *partitions: str) -> dict[str, int]:
    """Move to where a seek leads; return how many messages that means reading again."""
    moves = await found.find(seek, partitions or (await found.standing()).marks)
    await found.move({name: move.to for name, move in moves.items()})
    return {name: move.again for name, move in moves.items()}


async def committed(server: KafkaServer, topic: str) -> list[tuple[int, int, int]]:
    """Return offset, end and lag of each partition by Kafka's own tool."""
    rows = await anyio.to_thread.run_sync(server.describe_group, f"{topic}-workers")
    columns = ("CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")
    return [tuple(int(row[name]) for name in columns) for row in rows]  # type: ignore[misc]


async def fill(
    topic: str, publisher: Publisher, server: KafkaServer, *, note: str | None = None, partitions: int = 2
) -> None:
    """Publish ten messages to each partition, and have a member that is gone commit 6 of the first."""
    for partition in range(partitions):
        await publisher.publish(topic, 10, partition=partition)
    async with Member.join(topic, bootstrap_servers=server.address) as member:
        await member.receive(10 * partitions)
        await member.commit(6, note=note)


async def test_offsets_are_shown_as_kafka_s_own_tool_shows_them(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, members: Members
) -> None:
    """With who reads, and since when the oldest waits; a partition without a commit has none."""
    topic = await make_topic(2)
    before = time.time()
    await publisher.publish(topic, 10)
    await publisher.publish(topic, 5, partition=1)
    member = await members(topic)
    await member.receive(15)
    await member.commit(4)
    async with positions(kafka_server, topic) as found:
        standing = await found.standing()
    first, second = (standing.marks[f"{topic}-{number}"] for number in (0, 1))
    rows = await anyio.to_thread.run_sync(kafka_server.describe_group, f"{topic}-workers")
    shown = {(row["PARTITION"], row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["LAG"]) for row in rows}
    assert ("0", first.position, first.end, str(first.waiting)) in shown
    assert (first.position, first.first, first.end, first.waiting) == ("4", "0", "10", 6)
    assert (second.position, second.end, second.waiting) == (None, "5", 5)
    assert first.oldest is not None and before - 1 < first.oldest < time.time() + 1
    (text,) = standing.members
    assert rows[0]["CONSUMER-ID"] in text
    assert "offset_reset, 'earliest'" in standing.notes[0]


async def test_offsets_go_where_they_are_told(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """To a place, by a number, to the ends; each partition by itself; and Kafka's own tool sees it."""
    topic = await make_topic(2)
    await fill(topic, publisher, kafka_server)
    async with positions(kafka_server, topic) as found:
        assert await moved(found, Seek("position", position="2")) == {f"{topic}-0": 4, f"{topic}-1": -2}
        assert await committed(kafka_server, topic) == [(2, 10, 8), (2, 10, 8)]
        assert await moved(found, Seek("by", messages=-1), f"{topic}-1") == {f"{topic}-1": 1}
        assert [mark.position for mark in (await found.standing()).marks.values()] == ["2", "1"]
        assert await moved(found, Seek("by", messages=100)) == {f"{topic}-0": -8, f"{topic}-1": -9}
        assert await moved(found, Seek("earliest")) == {f"{topic}-0": 10, f"{topic}-1": 10}
        assert await moved(found, Seek("latest"), f"{topic}-0") == {f"{topic}-0": -10}
    assert await committed(kafka_server, topic) == [(10, 10, 0), (0, 10, 10)]


async def test_a_group_reads_again_what_came_since_a_time(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, members: Members
) -> None:
    """By Kafka's index of times; where nothing came since, from the end."""
    topic = await make_topic(2)
    base = int(time.time() * 1000) - 60_000
    for number in range(10):
        await publisher.producer.send_and_wait(
            topic, f"{number}".encode(), partition=0, timestamp_ms=base + 1000 * number
        )
    await publisher.publish(topic, 1, partition=1)
    async with Member.join(topic, bootstrap_servers=kafka_server.address) as member:
        await member.receive(11)
        await member.commit(10)
        await member.commit(1, partition=1)
    async with positions(kafka_server, topic) as found:
        assert await moved(found, Seek("time", seconds=base / 1000 + 7)) == {f"{topic}-0": 3, f"{topic}-1": 1}
        later = await found.find(Seek("time", seconds=time.time() + 60), [f"{topic}-0"])
        assert later[f"{topic}-0"].to == "10"
    member = await members(topic)
    assert {message.raw for message in await member.receive(4)} >= {b"7", b"8", b"9"}


async def test_a_group_that_has_members_is_left_alone(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, members: Members
) -> None:
    """The broker itself refuses, also where we did not look; who is a member is told."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    member = await members(topic)
    await member.receive(3)
    await member.commit(3)
    async with positions(kafka_server, topic) as found:
        (name,) = (await found.standing()).members
        with pytest.raises(ConfigError, match="has members") as caught:
            await found.move({f"{topic}-0": "0"}, force=True)
        assert name in str(caught.value)
        assert (await found.standing()).marks[f"{topic}-0"].position == "3"


async def test_a_group_that_was_never_there_is_made_where_it_is_to_begin(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, members: Members
) -> None:
    """Before the first run of a worker; to look makes none."""
    topic = await make_topic()
    await publisher.publish(topic, 5)
    async with positions(kafka_server, topic, offset_reset="latest") as found:
        mark = (await found.standing()).marks[f"{topic}-0"]
        assert (mark.position, mark.waiting) == (None, 0)
        assert await committed(kafka_server, topic) == []
        assert await moved(found, Seek("position", position="3")) == {f"{topic}-0": 2}
    member = await members(topic, offset_reset="latest")
    assert len(await member.receive(2)) == 2


async def test_the_note_beside_an_offset_goes_with_it(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """It says what was done behind the old offset, and would have that skipped in a replay."""
    topic = await make_topic()
    await fill(topic, publisher, kafka_server, note="1:6-7", partitions=1)
    assert await driving.committed(kafka_server.address, f"{topic}-workers") == {0: (6, "1:6-7")}
    async with positions(kafka_server, topic) as found:
        await moved(found, Seek("position", position="1"))
    assert await driving.committed(kafka_server.address, f"{topic}-workers") == {0: (1, "")}


async def test_what_is_not_there_is_told(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """An offset that no message has, with those there are."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    async with positions(kafka_server, topic) as found:
        for wrong in ("4", "-1", "newest"):
            with pytest.raises(ConfigError, match="only 0 to 3"):
                await found.find(Seek("position", position=wrong), [f"{topic}-0"])
