"""Dead letters on a real Kafka, where only a position can be settled: listed without a trace, replayed by choice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from pythia_core import Output, Start
from pythia_core.dead_letters import DeadLetter, Place, Replay, Selection, look
from pythia_kafka import KafkaConsumer
from tests.kafka.driving import MakeTopic, Members, committed, read
from tests.servers.kafka import KafkaServer


def place(address: str, topic: str) -> Place:
    """Return where the dead letters of a topic lie."""
    source = KafkaConsumer(topic, bootstrap_servers=address).resolve(Start(worker="w"))
    natural = source.dead_letters()
    assert natural is not None
    return Place(source, natural[1])


async def bury(at: Place, count: int) -> None:
    """Write letters, the odd ones of another error."""
    natural = at.source.dead_letters()
    assert natural is not None
    async with natural[0].fresh() as sink:
        await sink.check()
        outputs = [
            Output(
                sink,
                b"%d" % number,
                key="k",
                headers={
                    "h": "1",
                    "pythia-source": at.source.name,
                    "pythia-error": "m.Odd" if number % 2 else "m.Even",
                },
            )
            for number in range(count)
        ]
        result = await sink.write(outputs)
        assert len(result.confirmed) == count, result.errors


def shown(letters: list[DeadLetter]) -> Callable[[DeadLetter], bool]:
    """Return what keeps every letter."""

    def keep(letter: DeadLetter) -> bool:
        letters.append(letter)
        return True

    return keep


async def test_a_look_commits_nothing_and_a_replay_finds_every_letter(
    kafka_server: KafkaServer, make_topic: MakeTopic
) -> None:
    """What is not selected is written anew behind the others, so that the position can pass it; nothing is lost."""
    topic = await make_topic()
    at = place(kafka_server.address, topic)
    await bury(at, 30)
    for _ in range(2):
        letters: list[DeadLetter] = []
        await look(at.reader, shown(letters))
        assert len(letters) == 30
    assert all(
        position == 0 for position, _ in (await committed(kafka_server.address, "dead-letters")).values()
    )
    report = await Replay(at, Selection(error="Even")).run()
    assert (report.replayed, report.unselected, report.faults) == (15, 15, [])
    letters = []
    await look(at.reader, shown(letters))
    assert {letter.error for letter in letters} == {"m.Odd"} and len(letters) == 15
    assert (await Replay(at).run()).replayed == 15
    records = await read(kafka_server.address, topic, 30)
    assert [int(record.value) for record in records] == [*range(0, 30, 2), *range(1, 30, 2)]
    assert {tuple(record.headers) for record in records} == {(("h", b"1"),)}


async def test_a_look_takes_no_partition_from_a_replay(
    kafka_server: KafkaServer, make_topic: MakeTopic, members: Members
) -> None:
    """What looks is no member, so that the one that works keeps its partition."""
    at = place(kafka_server.address, await make_topic())
    await bury(at, 5)
    worker = await members(at.reader.name, consumer_group="dead-letters")
    letters: list[DeadLetter] = []
    await look(at.reader, shown(letters))
    assert [letter.error for letter in letters] == ["m.Even", "m.Odd"] * 2 + ["m.Even"]
    assert worker.owner.told == ["assigned"]  # to let another in, the group would have taken it back


async def test_the_commands_do_it_by_hand(kafka_server: KafkaServer, make_topic: MakeTopic) -> None:
    """As a user types them: send, which names a topic that is not there at once, or makes it; list, replay, list."""
    new = f"{await make_topic()}-new"

    async def pythia(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [Path(sys.executable).with_name("pythia"), *arguments],
                input=input,
                text=True,
                capture_output=True,
                check=False,
                env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka_server.address},
            )

        return await anyio.to_thread.run_sync(run)

    missing = await pythia("send", "kafka", f"topic={new}", input="1\n")
    assert missing.returncode == 1 and f"no topic '{new}'" in missing.stderr
    made = await pythia("send", "kafka", f"topic={new}", "create_topic=true", input="1\n2\n")
    assert made.stdout.startswith(f"✓ 2 sent to kafka {new}"), made.stderr
    await bury(place(kafka_server.address, new), 4)
    listed = await pythia("dead-letters", "list", "kafka", f"topic={new}", "--json")
    assert [json.loads(line)["error"] for line in listed.stdout.splitlines()] == ["m.Even", "m.Odd"] * 2
    replayed = await pythia("dead-letters", "replay", "kafka", f"topic={new}", "--error", "Even")
    assert replayed.stdout.startswith(f"✓ 2 replayed from {new}.dlq to {new}"), replayed.stderr
    assert [record.value for record in await read(kafka_server.address, new, 4)] == [b"1", b"2", b"0", b"2"]
    left = await pythia("dead-letters", "list", "kafka", f"topic={new}", "--json")
    assert [json.loads(line)["error"] for line in left.stdout.splitlines()] == ["m.Odd"] * 2
