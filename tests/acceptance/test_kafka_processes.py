"""The guide's worker.py as four processes on four partitions of a real Kafka, one of them killed and one started anew."""

import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.kafka_fleet import PYTHIA, Fleet, count, everything, fleet, handled, owners, publish
from tests.guide.snippets import FOLDER
from tests.metrics.running import total
from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer
from tests.servers.server import free_port
from tests.waiting import wait_until

GROUP = "order-processors"
KEYS = 80
FIRST, ALL = 4_000, 5_000

# What the guide's file, which tests/guide holds to the guide, calls `process_order`.
IMPORTS = """\
import asyncio
import os
import time

LOG = os.open(f"{os.environ['HANDLED']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
"""
BODY = """\
await asyncio.sleep(0.2)
        os.write(LOG, b"%d %d\\n" % (order["id"], time.monotonic_ns()))
"""
WORKER = (
    (FOLDER / "worker.py")
    .read_text()
    .replace("from notebook import note\n", IMPORTS)
    .replace('note("order", order)\n', BODY)
)


def orders(first: int, end: int) -> list[dict[str, Any]]:
    """Return orders to publish, each of one of some customers."""
    return [{"id": n, "customer": f"c{n % KEYS}"} for n in range(first, end)]


class Run:
    """Four processes that are killed one by one, step by step: a session takes 45 s to end, in which others may go on.

    Args:
        started: the fleet.
        server: its own Kafka.
        port: where the command listens; 0 if each process was started by hand.
    """

    def __init__(self, started: Fleet, server: KafkaServer, port: int) -> None:
        self.started, self.server, self.port = started, server, port
        self.killed = 0

    def steps(self) -> Iterator[None]:
        """Do one step at a time."""
        self.server.tool(
            "org.apache.kafka.tools.TopicCommand", "--create", "--topic", "orders", "--partitions", "4"
        )
        for _ in range(1 if self.port else 4):
            self.begin()
        yield
        self.wait_for_owners()
        publish(self.server, "orders", orders(0, FIRST), key="customer")
        if not self.port:
            self.wait_for(500)
            self.replace_gracefully()
        self.wait_for(1_500)
        self.kill_one()
        publish(self.server, "orders", orders(FIRST, ALL), key="customer")
        yield
        done = lambda: len(everything(self.started.handled)) == ALL
        wait_until(done, "all was handled", seconds=120)
        self.wait_for_owners()
        if self.port:
            assert total(self.port, "pythia_offset_resets_total") >= 4, "each partition began at its start"
        self.started.stop()

    def begin(self) -> None:
        """Start one process, or all of them by the command."""
        if self.port:
            self.started.start(PYTHIA, "run", self.started.worker, "-n", "4", "--listen", str(self.port))
        else:
            self.started.start()

    def wait_for(self, some: int) -> None:
        """Wait until so many orders have been handled; there have to be more of them to come."""
        wait_until(lambda: count(self.started.handled) >= some, f"{some} were handled", seconds=60)
        assert len(everything(self.started.handled)) < FIRST, "it was not under load"

    def wait_for_owners(self) -> None:
        """Wait until each of the four has a partition of its own."""
        wait_until(lambda: owners(self.server, GROUP) == [1] * 4, "each owned one", seconds=60)

    def replace_gracefully(self) -> None:
        """Stop the first process under load, and start another."""
        self.started.processes[0].send_signal(signal.SIGTERM)
        assert self.started.processes[0].wait(60) == 0, self.started.log()
        self.begin()

    def kill_one(self) -> None:
        """Kill one that is at work; the command replaces it by itself."""
        alive = psutil.pids()
        self.killed = next(pid for pid, ids in handled(self.started.handled).items() if ids and pid in alive)
        psutil.Process(self.killed).send_signal(signal.SIGKILL)
        if not self.port:
            self.begin()

    def check(self) -> None:
        """See nothing lost, only the killed one's work repeated, each key in order, and no lag by Kafka's own tool."""
        codes = [process.returncode for process in self.started.processes if process.pid != self.killed]
        assert set(codes) == {0}, self.started.log()
        rows = self.server.describe_group(GROUP)
        assert [row["LAG"] for row in rows] == ["0"] * 4
        done = handled(self.started.handled)
        counts = Counter(number for ids in done.values() for number in ids)
        assert sorted(counts) == list(range(ALL))
        twice = {number for number, times in counts.items() if times > 1}
        assert twice <= set(done[self.killed]), "only messages of the killed process may be handled twice"
        assert not [
            key for key, numbers in by_key(self.started.handled).items() if numbers != sorted(numbers)
        ]


def by_key(folder: Path) -> dict[int, list[int]]:
    """Return the orders of each key by the time at which they were first handled, in whichever process."""
    lines = [
        line for file in folder.iterdir() for line in file.read_bytes().rpartition(b"\n")[0].splitlines()
    ]
    first: dict[int, None] = {}
    for _, number in sorted((int(at), int(number)) for number, at in map(bytes.split, lines)):
        first.setdefault(number)
    found: dict[int, list[int]] = defaultdict(list)
    for number in first:
        found[number % KEYS].append(number)
    return found


@pytest.mark.slow
@pytest.mark.timeout(420)  # a session of 45 s, eight processes and a dozen runs of Kafka's own tools
def test_four_processes_share_the_partitions_and_lose_nothing(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """Each owns one; kill one with -9 and start another: all is handled, each key in its order, and no lag is left.

    By `python worker.py`, four times, of which one is also stopped and replaced under load; and by `pythia run -n 4`.
    """
    with ExitStack() as stack:
        runs = []
        for how, port in (("python", 0), ("pythia", free_port())):
            (tmp_path / how).mkdir()
            server = own_kafka()
            runs.append(Run(stack.enter_context(fleet(tmp_path / how, server, WORKER)), server, port))
        steps = [run.steps() for run in runs]
        while steps:
            steps = [step for step in steps if next(step, "ended") is None]
        for run in runs:
            run.check()
