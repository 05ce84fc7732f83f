"""A message that kills its process, under the real command: it is found out, and its neighbours have nothing to fear."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio.to_thread
import pytest

from pythia_core import SUSPECT_AFTER
from tests.rabbitmq.driving import Client
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually

PYTHIA = Path(sys.executable).with_name("pythia")
NEIGHBOURS = 60
KILLER = 20  # among the first that run
SOLO_CRASHES = 3

WORKER = f"""
import os, signal
import anyio
from pythia_core import Worker, WorkerConfig
from pythia.brokers.rabbitmq import RabbitMQConsumer


def note(file, number):
    with open(file, "ab", buffering=0) as file:
        file.write(b"%d\\n" % number)


class Victim(Worker):
    source = RabbitMQConsumer("tasks", solo_crashes={SOLO_CRASHES})
    config = WorkerConfig(batch_timeout=0.1)

    async def process(self, message):
        number = message.body["n"]
        note("begun", number)
        await anyio.sleep(0.02)
        if number == {KILLER}:
            os.kill(os.getpid(), signal.SIGKILL)
        note("done", number)
"""


def numbers(path: Path) -> Counter[int]:
    """Return how often each number was noted."""
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


@pytest.mark.slow
async def test_a_message_that_kills_its_process_is_dead_lettered_alone(
    rabbitmq_server: RabbitServer, tmp_path: Path
) -> None:
    """After some crashes among others and some alone; every neighbour is processed, and none is a dead letter."""
    url = rabbitmq_server.add_vhost("killers")
    (tmp_path / "worker.py").write_text(WORKER)
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(
            [PYTHIA, "run", "worker.py", "-n", "2"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "RABBITMQ_URL": url},
        )
    try:
        await eventually(
            lambda: rabbitmq_server.ready("tasks.suspects", "killers") is not None, "it was ready", seconds=30
        )
        async with Client.connected(url) as client:
            await client.publish("tasks", NEIGHBOURS + 1)
            await client.wait_for_depth("tasks.dlq", 1, seconds=100)
            everybody = set(range(NEIGHBOURS + 1)) - {KILLER}
            await eventually(lambda: set(numbers(tmp_path / "done")) == everybody, "the rest", seconds=40)
            process.terminate()
            assert await anyio.to_thread.run_sync(process.wait, 30) == 0, (tmp_path / "log").read_text()
            assert [await client.depth(queue) for queue in ("tasks", "tasks.suspects")] == [0, 0]
            (letter,) = await client.drain("tasks.dlq")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        rabbitmq_server.delete_vhost("killers")
    assert json.loads(letter.body) == {"n": KILLER}
    assert letter.headers["pythia-source"] == "tasks"
    crashes = numbers(tmp_path / "begun")[KILLER]
    assert SOLO_CRASHES <= crashes <= SUSPECT_AFTER + SOLO_CRASHES
