"""The guide's files started as the guide starts them: several processes of one, and one of several workers."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guide.conftest import MakeTopics
from tests.guide.running import Notes
from tests.guide.snippets import FOLDER
from tests.guide.truth import watched
from tests.kafka.driving import Publisher
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually

PYTHIA = Path(sys.executable).with_name("pythia")
STAGES = {
    "data-ingestion-worker": "raw-data",
    "data-processing-worker": "validated-data",
    "data-storage-worker": "processed-data",
}
"""Consumer groups of the pipeline, named after its workers, and the topics that they read."""


@contextmanager
def processes(*commands: list[str | Path], log: Path) -> Iterator[None]:
    """Run commands for one block; in the end each has to drain and exit cleanly."""
    with log.open("wb") as out:
        started = [
            subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ})
            for command in commands
        ]
    try:
        yield
        for process in started:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in started] == [0] * len(started), log.read_text()
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait(10)


async def test_four_processes_share_the_orders(
    make_topics: MakeTopics, publisher: Publisher, notes: Notes, tmp_path: Path, kafka: KafkaServer
) -> None:
    """`python worker.py` four times: each has a partition of four, each order is processed once, and the lag is true."""
    await make_topics("orders", partitions=4)
    sent = 0
    command: list[str | Path] = [sys.executable, FOLDER / "worker.py"]
    with processes(*[command] * 4, log=tmp_path / "log"):
        async with watched(kafka, ("order-processors", "orders")):
            while len(notes.by_process("order")) < 4:  # until all of them have joined
                for partition in range(4):
                    await publisher.publish("orders", 5, start=sent, partition=partition)
                    sent += 5
                done = lambda wanted=sent: len(notes("order")) >= wanted
                await eventually(done, "every order was processed", seconds=30)
    assert Counter(order["n"] for order in notes("order")) == Counter(range(sent))


async def test_a_file_of_three_stages_is_a_pipeline(
    make_topics: MakeTopics, publisher: Publisher, notes: Notes, tmp_path: Path, kafka: KafkaServer
) -> None:
    """`pythia run pipeline.py` runs all three stages: what comes in raw is stored, validated and processed.

    Meanwhile the admin says truly how far each stage has got.
    """
    await make_topics("raw-data", "validated-data", "processed-data")
    for celsius in range(20):
        await publisher.producer.send_and_wait("raw-data", json.dumps({"celsius": celsius}).encode())
    with processes([PYTHIA, "run", FOLDER / "pipeline.py"], log=tmp_path / "log"):
        async with watched(kafka, *STAGES.items()):
            await eventually(lambda: len(notes("stored")) >= 20, "all of it was stored", seconds=30)
    stored = {data["celsius"]: data for data in notes("stored")}
    assert len(notes("stored")) == len(stored) == 20
    assert stored[10] == {"celsius": 10, "valid": True, "fahrenheit": 50.0}
