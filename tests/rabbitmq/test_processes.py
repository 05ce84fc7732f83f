"""The guide's worker as three processes on one queue, through a broker that is killed and a stop; and its dead letters."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio.to_thread
import pytest

from tests.rabbitmq.driving import Client
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually, wait_until

PYTHIA = Path(sys.executable).with_name("pythia")

WORKER = """
import os

import anyio

from pythia import Reject, Worker
from pythia.brokers.rabbitmq import RabbitMQConsumer


# Multiple workers consuming from same queue
class LoadBalancedWorker(Worker):
    source = RabbitMQConsumer(
        queue="tasks",
        prefetch_count=10,  # Process 10 messages at once
        auto_ack=False,  # Manual acknowledgment
    )

    async def process(self, message):
        if message.body["n"] < 0 and not os.path.exists("mended"):
            raise Reject("unlucky")
        await anyio.sleep(0.2)
        with open("seen", "ab", buffering=0) as file:
            file.write(b"%d %d\\n" % (os.getpid(), message.body["n"]))
"""


def seen(folder: Path) -> list[tuple[int, int]]:
    """Return process and number of everything that was processed."""
    path = folder / "seen"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(int(pid), int(number)) for pid, number in map(str.split, lines)]


def numbers(folder: Path) -> set[int]:
    """Return the numbers that were processed."""
    return {number for _, number in seen(folder)}


def run_worker(folder: Path, url: str, *options: str) -> "subprocess.Popen[bytes]":
    """Start the worker by the command."""
    (folder / "worker.py").write_text(WORKER)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [PYTHIA, "run", "worker.py", *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "RABBITMQ_URL": url},
        )


@pytest.mark.slow
async def test_three_processes_share_a_queue_and_survive_its_broker(
    frail_rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    """None of them restarts, nothing is lost, and a stop gives back what has not started, as it was published."""
    server = frail_rabbitmq
    process = run_worker(tmp_path, server.url, "-n", "3")
    try:
        await eventually(lambda: server.ready("tasks") is not None, "the queue was made", seconds=30)
        server.keep_queues()
        async with Client.connected(server.url) as client:
            await client.publish("tasks", 7_000)  # more than two do while the third waits to connect again
        await eventually(lambda: len(numbers(tmp_path)) > 150, "it was under load", seconds=40)
        server.kill()
        await anyio.to_thread.run_sync(server.start)
        before = len(seen(tmp_path))
        await eventually(
            lambda: len({pid for pid, _ in seen(tmp_path)[before:]}) == 3, "all three went on", seconds=60
        )
        mark = len(seen(tmp_path))
        await eventually(lambda: len(seen(tmp_path)) > mark + 300, "they worked side by side", seconds=40)
        shares = Counter(pid for pid, _ in seen(tmp_path)[mark:])
        process.terminate()
        assert await anyio.to_thread.run_sync(process.wait, 30) == 0, (tmp_path / "log").read_text()
        async with Client.connected(server.url) as client:
            waiting = await client.drain("tasks")
            failed = await client.depth("tasks.dlq")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    left = [json.loads(message.body)["n"] for message in waiting]
    assert sorted({*numbers(tmp_path), *left}) == list(range(7_000))  # nothing lost
    assert len({pid for pid, _ in seen(tmp_path)}) == 3  # nobody was restarted
    assert len(shares) == 3 and min(shares.values()) > 0.2 * shares.total()  # nobody idled
    assert failed == 0
    assert all(set(message.headers) <= {"x-delivery-count"} for message in waiting)  # the server's own
    again = len(seen(tmp_path)) + len(left) - 7_000
    assert again <= 2 * 3 * 10  # of what was out when its broker was killed: the prefetches


def test_dead_letters_are_listed_and_replayed(rabbitmq_server: RabbitServer, tmp_path: Path) -> None:
    """By the command, from the queue's natural place; listing takes none."""
    url = rabbitmq_server.add_vhost("letters")
    environ = {**os.environ, "RABBITMQ_URL": url}

    def command(*arguments: str, input: str = "") -> str:
        done = subprocess.run(
            [PYTHIA, *arguments],
            cwd=tmp_path,
            input=input,
            text=True,
            capture_output=True,
            check=False,
            env=environ,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ready(queue: str) -> int | None:
        return rabbitmq_server.ready(queue, "letters")

    process = run_worker(tmp_path, url)
    try:
        wait_until(lambda: ready("tasks") is not None, "the queue was made", seconds=30)
        command("send", "rabbitmq", "queue=tasks", input='{"n": -1}\n{"n": 1}\n{"n": -2}\n')
        wait_until(lambda: ready("tasks.dlq") == 2, "both were dead letters", seconds=20)
        for _ in range(2):
            assert command("dead-letters", "list", "worker.py").count("unlucky") >= 2
        (tmp_path / "mended").touch()
        command("dead-letters", "replay", "worker.py")
        wait_until(lambda: numbers(tmp_path) == {1, -1, -2}, "they were processed", seconds=20)
        wait_until(lambda: ready("tasks.dlq") == 0, "they were taken", seconds=20)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
