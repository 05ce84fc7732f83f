"""The guide's worker.py as four processes on four partitions of a real Kafka, one of them killed and one started anew."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer
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


def publish(server: KafkaServer, first: int, count: int) -> None:
    """Publish by `pythia send`, as the README does it."""
    lines = "".join(
        json.dumps({"id": n, "customer": f"c{n % KEYS}"}) + "\n" for n in range(first, first + count)
    )
    command: list[Any] = [
        Path(sys.executable).with_name("pythia"),
        "send",
        "kafka",
        "topic=orders",
        "--key-field",
        "customer",
    ]
    subprocess.run(
        [*command, "--json"],
        input=lines.encode(),
        check=True,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": server.address},
        stdout=subprocess.DEVNULL,
    )


def handled(folder: Path) -> dict[int, list[int]]:
    """Return the ids that each process wrote down, by pid; a line cut short by a kill does not count."""
    return {
        int(file.name): [int(line.split()[0]) for line in file.read_bytes().rpartition(b"\n")[0].splitlines()]
        for file in folder.iterdir()
    }


def count(folder: Path) -> int:
    """Return how many lines there are."""
    return sum(len(ids) for ids in handled(folder).values())


def everything(folder: Path) -> set[int]:
    """Return every id that was handled."""
    return set().union(*handled(folder).values())


class Fleet:
    """Processes of the worker file, started one by one or by the command."""

    def __init__(self, folder: Path, server: KafkaServer) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "worker.py").write_text(WORKER)
        (folder / "handled").mkdir()
        self._environ = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": server.address,
            "HANDLED": str(folder / "handled"),
        }
        self._log = (folder / "log").open("ab")

    def start(self, *command: str | Path) -> None:
        """Start one more."""
        self.processes.append(
            subprocess.Popen(
                command, env=self._environ, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
            )
        )

    def stop(self) -> None:
        """Stop all that live, gracefully."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=60)

    def log(self) -> str:
        """Return the end of what they logged."""
        return (self.folder / "log").read_text()[-4000:]


@contextmanager
def fleet(folder: Path, server: KafkaServer) -> Iterator[Fleet]:
    """Have a fleet for one block; none of it outlives that."""
    made = Fleet(folder, server)
    try:
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.kill()
            process.wait(30)
        made._log.close()


def owners(server: KafkaServer) -> Counter[str]:
    """Return how many partitions each member has, by Kafka's own tool."""
    return Counter(
        row["CONSUMER-ID"] for row in server.describe_group(GROUP) if row.get("CONSUMER-ID", "-") != "-"
    )


@pytest.mark.parametrize("how", ["python worker.py, four times", "pythia run worker.py -n 4"])
def test_four_processes_share_the_partitions_and_lose_nothing(
    own_kafka: OwnKafka, tmp_path: Path, how: str
) -> None:
    """Each owns one; kill one with -9 and start another: all is handled, each key in its order, and no lag is left."""
    server = own_kafka(properties={"num.partitions": "4"})
    server.tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", "orders", "--partitions", "4")
    pythia = Path(sys.executable).with_name("pythia")
    folder = tmp_path / "handled"
    with fleet(tmp_path, server) as started:
        if how.startswith("python"):
            for _ in range(4):
                started.start(sys.executable, tmp_path / "worker.py")
        else:
            started.start(pythia, "run", tmp_path / "worker.py", "-n", "4")
        wait_until(lambda: sorted(owners(server).values()) == [1] * 4, "each owned one", seconds=60)
        publish(server, 0, 6_000)
        wait_until(lambda: count(folder) >= 2_000, "a third was handled", seconds=60)
        victim = next(pid for pid, ids in handled(folder).items() if ids)
        (psutil.Process(victim)).send_signal(signal.SIGKILL)
        if how.startswith("python"):
            started.start(sys.executable, tmp_path / "worker.py")
        publish(server, 6_000, 2_000)
        wait_until(lambda: len(everything(folder)) == 8_000, "all was handled", seconds=90)
        wait_until(lambda: sorted(owners(server).values()) == [1] * 4, "each owned one again", seconds=60)
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
