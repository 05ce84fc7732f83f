"""Processes on a real Kafka that are stopped while a message will not end, and some that one message kills again and again."""

import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from pythia_core import Start
from pythia_kafka import KafkaAdmin, KafkaConsumer
from tests.acceptance.kafka_fleet import PYTHIA, count, everything, fleet, handled
from tests.kafka.driving import Publisher
from tests.servers.kafka import KafkaServer
from tests.waiting import wait_until

HEADS = 4

STUCK = """\
import asyncio
import os
from pythia import Worker
from pythia.config import RetryPolicy, WorkerConfig
from pythia.brokers.kafka import KafkaConsumer

LOG = os.open(f"{os.environ['HANDLED']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Stuck(Worker):
    source = KafkaConsumer("stuck", consumer_group="stuck", session_timeout=6, rebalance_timeout=6)
    config = WorkerConfig(drain_timeout=2, retry=RetryPolicy(attempts=1000, base=1, cap=1))

    async def process(self, message):
        number = message.body["n"]
        if number == 0:  # the first of each partition: half of them sleep, half of them wait for a retry
            while not os.path.exists(os.environ["TOLD"]):
                if message.partition.partition % 2:
                    raise ConnectionError("not now")
                await asyncio.sleep(0.05)
        else:
            await asyncio.sleep(0.08)
        os.write(LOG, b"%d\\n" % (message.partition.partition * 10_000 + number))


if __name__ == "__main__":
    Stuck().run()
"""

KILLED = """\
import os
from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer
from pythia.config import WorkerConfig

LOG = os.open(f"{os.environ['HANDLED']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Killed(Worker):
    source = KafkaConsumer("killed", consumer_group="killed", session_timeout=1.5, rebalance_timeout=3)
    config = WorkerConfig(drain_timeout=1)

    async def process(self, message):
        if message.body["n"] == 7 and message.partition.partition == 0:
            os._exit(9)
        os.write(LOG, b"%d\\n" % (message.partition.partition * 10_000 + message.body["n"]))
"""


def fill(server: KafkaServer, topic: str, partitions: int, count: int) -> None:
    """Make a topic and publish so many messages to each of its partitions, all of different keys."""

    async def fill() -> None:
        async with KafkaAdmin(bootstrap_servers=server.address) as admin:
            await admin.create_topic(topic, partitions=partitions)
        async with Publisher.connected(server.address) as publisher:
            for partition in range(partitions):
                await publisher.publish(topic, count, partition=partition, keys=count)

    anyio.run(fill)


def dead(server: KafkaServer, topic: str) -> list[Any]:
    """Return the dead letters of a topic."""

    async def browse() -> list[Any]:
        source = KafkaConsumer(f"{topic}.dlq", bootstrap_servers=server.address, consumer_group="nobody")
        async with source.resolve(Start(worker="w")).inspect() as inspector:
            return [message async for message in inspector.browse()]

    return anyio.run(browse)


def lags(server: KafkaServer, group: str) -> Sequence[str]:
    """Return what is left of each partition, by Kafka's own tool."""
    return [row["LAG"] for row in server.describe_group(group)]


def test_stops_repeat_nothing_while_a_message_of_each_partition_is_stuck(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    """Any of them, under load: one message sleeps, or waits for its retry, and all that is done behind it is remembered."""
    fill(kafka_server, "stuck", HEADS, 800)
    told = tmp_path / "told"

    def at_work(more_than: int) -> None:
        wait_until(lambda: count(started.handled) > more_than, "they were at work", seconds=60)

    with fleet(tmp_path, kafka_server, STUCK, TOLD=str(told)) as started:
        first, second = started.start(), started.start()
        for number, process in enumerate((first, second), start=1):
            at_work(number * 500)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, started.log()
            assert count(started.handled) < HEADS * 799, "it was not under load"
            started.start()
        told.touch()
        wait_until(lambda: len(everything(started.handled)) == HEADS * 800, "all was handled", seconds=60)
        started.stop()
        assert {process.returncode for process in started.processes} == {0}, started.log()
    counts = Counter(number for ids in handled(started.handled).values() for number in ids)
    assert set(counts.values()) == {1}
    assert lags(kafka_server, "stuck") == ["0"] * HEADS


@pytest.mark.slow
def test_a_message_that_kills_its_process_is_found_and_spares_its_neighbours(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    """Kafka counts no deliveries; the note beside the offset does. All the others are handled, once or a few times."""
    fill(kafka_server, "killed", 2, 30)
    with fleet(tmp_path, kafka_server, KILLED) as started:
        started.start(PYTHIA, "run", started.worker, "-n", "2")
        wait_until(lambda: len(everything(started.handled)) == 59, "all the others were handled", seconds=50)
        wait_until(lambda: lags(kafka_server, "killed") == ["0", "0"], "it was given up", seconds=50)
        started.stop()
        assert {process.returncode for process in started.processes} == {0}, started.log()
    (letter,) = dead(kafka_server, "killed")
    assert (letter.raw, letter.headers["pythia-partition"]) == (b'{"n": 7}', "killed-0")
