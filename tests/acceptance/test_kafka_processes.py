"""The guide's worker.py as four processes on four partitions of a real Kafka, one of them killed and one started anew."""

import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.kafka_fleet import PYTHIA, count, everything, fleet, handled, owners, publish
from tests.servers.fixtures import OwnKafka
from tests.waiting import wait_until

GROUP = "order-processors"
KEYS = 80

# The guide's file, with a body for `process_order` and what starts it by itself.
WORKER = """\
import os
import asyncio
from pythia import Worker
from pythia.brokers.kafka import KafkaConsumer

LOG = os.open(f"{os.environ['HANDLED']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class OrderProcessor(Worker):
    source = KafkaConsumer(
        topic="orders",
        consumer_group="order-processors",  # Scale with multiple consumers
        session_timeout=6.0,
    )

    async def process(self, message):
        await self.process_order(message.body)

    async def process_order(self, order):
        await asyncio.sleep(0.005)
        os.write(LOG, b"%d %d\\n" % (order["id"], order["id"] % 80))


if __name__ == "__main__":
    OrderProcessor().run()
"""


def orders(first: int, count: int) -> list[dict[str, Any]]:
    """Return orders to publish, each of one of some customers."""
    return [{"id": n, "customer": f"c{n % KEYS}"} for n in range(first, first + count)]


@pytest.mark.parametrize("how", ["python worker.py, four times", "pythia run worker.py -n 4"])
def test_four_processes_share_the_partitions_and_lose_nothing(
    own_kafka: OwnKafka, tmp_path: Path, how: str
) -> None:
    """Each owns one; kill one with -9 and start another: all is handled, each key in its order, and no lag is left."""
    server = own_kafka(properties={"num.partitions": "4"})
    server.tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", "orders", "--partitions", "4")
    folder = tmp_path / "handled"
    with fleet(tmp_path, server, WORKER) as started:
        if how.startswith("python"):
            for _ in range(4):
                started.start()
        else:
            started.start(PYTHIA, "run", started.worker, "-n", "4")
        wait_until(lambda: owners(server, GROUP) == [1] * 4, "each owned one", seconds=60)
        publish(server, "orders", orders(0, 6_000), key="customer")
        wait_until(lambda: count(folder) >= 2_000, "a third was handled", seconds=60)
        victim = next(pid for pid, ids in handled(folder).items() if ids)
        (psutil.Process(victim)).send_signal(signal.SIGKILL)
        if how.startswith("python"):
            started.start()
        publish(server, "orders", orders(6_000, 2_000), key="customer")
        wait_until(lambda: len(everything(folder)) == 8_000, "all was handled", seconds=90)
        wait_until(lambda: owners(server, GROUP) == [1] * 4, "each owned one again", seconds=60)
        started.stop()
        codes = [process.returncode for process in started.processes if process.pid != victim]
        assert set(codes) == {0}, started.log()
    rows = server.describe_group(GROUP)
    assert [row["LAG"] for row in rows] == ["0"] * 4
    done = handled(folder)
    counts = Counter(number for ids in done.values() for number in ids)
    twice = {number for number, times in counts.items() if times > 1}
    assert twice <= set(done[victim]), "only messages of the killed process may be handled twice"
    for ids in done.values():
        by_key: dict[int, list[int]] = defaultdict(list)
        for number in ids:
            by_key[number % KEYS].append(number)
        assert all(numbers == sorted(numbers) for numbers in by_key.values())
