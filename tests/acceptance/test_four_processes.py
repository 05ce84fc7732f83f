"""Four processes on one Redis stream, one of them killed, all of them stopped, and started again: nothing is lost."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.servers.fixtures import OwnRedis
from tests.servers.redis import RedisServer
from tests.waiting import wait_until

MESSAGES = 20_000
PROCESSES = 4

WORKER = """
import os
import anyio
from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer

LOG = os.open(f"{os.environ['HANDLED']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class OrderProcessor(Worker):
    source = RedisStreamsConsumer(stream="orders", consumer_group="order-processors", lease_seconds=3)

    async def process(self, message):
        await anyio.sleep(0.01)
        os.write(LOG, b"%d\\n" % message.body["id"])
"""


def publish(client: redis.Redis) -> None:
    """Fill the stream by the bare client."""
    for start in range(0, MESSAGES, 1000):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, start + 1000):
            pipeline.xadd("orders", {"body": b'{"id": %d}' % number})
        pipeline.execute()


def handled(folder: Path) -> dict[int, list[int]]:
    """Return the ids that each process wrote down, by pid; a line cut short by a kill does not count."""
    return {
        int(file.name): [int(line) for line in file.read_bytes().rpartition(b"\n")[0].splitlines()]
        for file in folder.iterdir()
    }


def count(folder: Path) -> int:
    """Return how many lines there are."""
    return sum(len(ids) for ids in handled(folder).values())


@contextmanager
def running(folder: Path, server: RedisServer, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker file by the command until the block ends."""
    pythia = Path(sys.executable).with_name("pythia")
    environ = {**os.environ, "REDIS_URL": server.url, "HANDLED": str(folder / "handled")}
    with log.open("ab") as out:
        command: list[str | Path] = [pythia, "run", folder / "worker.py", "-n", str(PROCESSES)]
        process = subprocess.Popen(command, env=environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=30)


def test_nothing_is_lost_though_a_process_is_killed_and_all_are_stopped(
    own_redis: OwnRedis, tmp_path: Path
) -> None:
    """Kill one of four at half, stop at three quarters, start again: every message is handled and nothing pends."""
    server = own_redis()
    client: Any = redis.Redis(port=server.port)
    (tmp_path / "worker.py").write_text(WORKER)
    folder = tmp_path / "handled"
    folder.mkdir()
    log = tmp_path / "log"
    publish(client)

    with running(tmp_path, server, log) as first:
        wait_until(lambda: count(folder) >= MESSAGES // 2, "half is handled", seconds=60)
        victim = next(pid for pid, ids in handled(folder).items() if ids)
        assert first.pid in [parent.pid for parent in psutil.Process(victim).parents()]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: count(folder) >= MESSAGES * 3 // 4, "three quarters are handled", seconds=60)
        first.send_signal(signal.SIGTERM)
        code = first.wait(timeout=40)
        assert code == 0, log.read_text()[-3000:]

    by_killed = set(handled(folder)[victim])
    holders = [row["name"] for row in client.xpending("orders", "order-processors")["consumers"]]
    assert len([name for name in holders if name != b"pythia-released"]) == 1, holders

    with running(tmp_path, server, log) as second:
        wait_until(
            lambda: len(set().union(*handled(folder).values())) == MESSAGES,
            "everything is handled",
            seconds=60,
        )
        wait_until(
            lambda: client.xpending("orders", "order-processors")["pending"] == 0, "nothing pends", seconds=30
        )
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=40) == 0, log.read_text()

    counts = Counter(number for ids in handled(folder).values() for number in ids)
    assert sorted(counts) == list(range(MESSAGES))
    assert client.xlen("orders") == MESSAGES
    (group,) = client.xinfo_groups("orders")
    assert (group["pending"], group["lag"]) == (0, 0)
    twice = {number for number, times in counts.items() if times > 1}
    assert twice <= by_killed, "only messages of the killed process may be handled twice"
