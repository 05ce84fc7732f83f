"""Real fleets on a real Redis and a real Kafka: a load that grows starts processes, its end drains them, nothing is lost.

It takes some minutes, so that `nox -s scaling` runs it and the default tests do not.
"""

import contextlib
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis

from pythia_kafka import KafkaAdmin
from pythia_metrics.commands import explanation
from tests.kafka.driving import Publisher
from tests.metrics.running import get, total, wait_for
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.servers.server import free_port
from tests.supervisor.running import run
from tests.waiting import wait_until

WORKER = """
import os
from pathlib import Path
import anyio
from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer
from pythia.config import WorkerConfig

HERE = Path(__file__).parent
(HERE / "handled").mkdir(exist_ok=True)
LOG = os.open(HERE / "handled" / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Jobs(Worker):
    source = RedisStreamsConsumer("jobs", consumer_group="workers", url="URL")
    config = WorkerConfig(max_concurrent_tasks=2, drain_timeout=5, limits={"messages": 20})

    async def process(self, message):
        await anyio.sleep(0.05)
        os.write(LOG, b"%d\\n" % message.body["id"])
"""


PIPELINE = """
from pythia import Output
from pythia.brokers.redis import RedisStreamsProducer


class Validation(Worker):
    source = RedisStreamsConsumer("raw", consumer_group="workers", url="URL")
    sink = RedisStreamsProducer("jobs", url="URL")

    async def process(self, message):
        return Output(self.sink, message.body)
"""


QUICK = """
[worker.scaling]
kind = "drain"
scale_down_window = 6.0
step_seconds = 5.0
"""


def handled(folder: Path) -> Counter[int]:
    """Return how often each message was handled."""
    found: Counter[int] = Counter()
    for file in (folder / "handled").glob("*"):
        found.update(int(line) for line in file.read_text().splitlines())
    return found


def test_a_load_that_grows_starts_processes_and_its_end_drains_them(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """40 messages a second for each process; a pile of 4,000 wants four of them, and none wants one."""
    port = free_port()
    (tmp_path / "pythia.toml").write_text(QUICK)
    arguments = ["--min", "1", "--max", "4", "--config", str(tmp_path / "pythia.toml")]
    client = redis.Redis(port=redis_server.port)
    sent = 0

    def send(number: int) -> None:
        nonlocal sent
        pipeline = client.pipeline(transaction=False)
        for _ in range(number):
            pipeline.xadd("jobs", {"body": json.dumps({"id": sent})})
            sent += 1
        pipeline.execute()

    text = WORKER.replace("URL", f"redis://127.0.0.1:{redis_server.port}/0")
    with run(tmp_path, "--listen", str(port), *arguments, text=text) as running:
        wait_until(lambda: get(port, "/readyz")[0] == 200, "one is ready", seconds=20)
        send(300)
        wait_for(port, "pythia_queue_messages", lambda value: value > 0, state="ready")
        until = time.monotonic() + 45
        while total(port, "pythia_worker_replicas", state="ready") < 4 and time.monotonic() < until:
            send(30)
            time.sleep(0.25)
        assert total(port, "pythia_worker_replicas", state="ready") == 4, explanation(said(port), 9, True)
        wait_for_all(tmp_path, lambda: sent)
        wait_for_one(port)
        explained = said(port)
        assert "pythia.toml" in explained["policy"] and 10 < explained["true_rate"] < 80
        changes = [d for d in explained["decisions"] if d["before"] != d["after"]]
        assert [d["before"] for d in changes[1:]] == [d["after"] for d in changes[:-1]]
        assert all(d["reason"] and d["inputs"]["backlog"] >= 0 for d in changes)
        assert total(port, "pythia_scaling_decisions_total", direction="up") >= 1
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
    assert handled(tmp_path) == Counter(range(sent)), (
        "each once: nothing lost, and nothing twice by a scale-in"
    )


def test_the_slow_stage_of_a_pipeline_is_scaled_by_itself(tmp_path: Path, redis_server: RedisServer) -> None:
    """A pile before the second of two stages starts processes of that one alone, and each message goes through once."""
    jobs, validation = free_port(), 0
    while not validation:  # the second worker of a file answers at the next port
        jobs = free_port()
        with socket.socket() as neighbour, contextlib.suppress(OSError):
            neighbour.bind(("127.0.0.1", jobs + 1))
            validation = jobs + 1
    (tmp_path / "pythia.toml").write_text(QUICK)
    arguments = ["--each", "--min", "1", "--max", "3", "--config", str(tmp_path / "pythia.toml")]
    client = redis.Redis(port=redis_server.port)
    text = (WORKER + PIPELINE).replace("URL", f"redis://127.0.0.1:{redis_server.port}/0")
    with run(tmp_path, "--listen", str(jobs), *arguments, text=text) as running:
        for port in (jobs, validation):
            wait_until(lambda port=port: get(port, "/readyz")[0] == 200, "a stage is ready", seconds=30)  # type: ignore[misc]
        pipeline = client.pipeline(transaction=False)
        for number in range(4000):
            pipeline.xadd("raw", {"body": json.dumps({"id": number})})
        pipeline.execute()
        three = lambda: total(jobs, "pythia_worker_replicas", state="ready") == 3
        wait_until(three, "the slow stage has three processes", seconds=60)
        wait_for_all(tmp_path, lambda: 4000)
        wait_for_one(jobs)
        assert total(validation, "pythia_scaling_decisions_total", direction="up") == 0
        assert total(validation, "pythia_worker_replicas", state="ready") == 1
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
    assert handled(tmp_path) == Counter(range(4000)), "each once, through both stages"


def wait_for_one(port: int) -> None:
    """Wait until there is one process again, and say what was decided if there is not."""
    until = time.monotonic() + 60
    while total(port, "pythia_worker_replicas", state="ready") != 1 or said(port)["desired"] != 1:
        assert time.monotonic() < until, explanation(said(port), 12, True)
        time.sleep(0.25)


def said(port: int) -> dict[str, Any]:
    """Return what /scaling says."""
    status, text = get(port, "/scaling")
    answer: dict[str, Any] = json.loads(text if status == 200 else "{}")
    return answer


def wait_for_all(folder: Path, sent: Any) -> None:
    """Wait until everything is handled."""
    wait_until(lambda: len(handled(folder)) == sent(), "all is handled", seconds=90)


KAFKA = (
    WORKER.replace(
        "from pythia.brokers.redis import RedisStreamsConsumer",
        "from pythia.brokers.kafka import KafkaConsumer",
    )
    .replace('RedisStreamsConsumer("jobs", consumer_group="workers", url="URL")', "KafkaConsumer(SOURCE)")
    .replace("drain_timeout=5, limits", "drain_timeout=5, batch_timeout=0.5, limits")
)
TICK = 0.2  # seconds between two pieces of a load
QUIET, BUSY = 22, 88  # messages a second; a process does less than 40, and is planned for 70 % of that
PARTITIONS = 8


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_kafka_worker_follows_a_load_that_quadruples_and_back(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    """One process, then four, then one; each message once, and each step explained by numbers."""
    port, topic = free_port(), "scaled"
    (tmp_path / "pythia.toml").write_text(QUICK)
    arguments = ["--min", "1", "--max", "4", "--config", str(tmp_path / "pythia.toml")]
    source = f'"{topic}", consumer_group="scaled", bootstrap_servers="{kafka_server.address}"'
    async with KafkaAdmin(bootstrap_servers=kafka_server.address) as admin:
        await admin.create_topic(topic, partitions=PARTITIONS)
    sent = 0

    async def load(rate: int, until: Callable[[], bool], what: str, seconds: float = 150) -> None:
        """Send at a rate until something is so."""
        nonlocal sent
        began, so_far = time.monotonic(), 0
        while not await anyio.to_thread.run_sync(until):
            assert time.monotonic() - began < seconds, f"{what}: {explanation(said(port), 15, True)}"
            while so_far < (time.monotonic() - began) * rate:
                await publisher.producer.send(
                    topic, json.dumps({"id": sent}).encode(), partition=sent % PARTITIONS
                )
                sent, so_far = sent + 1, so_far + 1
            await anyio.sleep(TICK)

    def sized(number: int) -> bool:
        return bool(total(port, "pythia_worker_replicas", state="ready") == number == said(port)["desired"])

    async with Publisher.connected(kafka_server.address) as publisher:
        with run(
            tmp_path, "--listen", str(port), *arguments, text=KAFKA.replace("SOURCE", source)
        ) as running:
            wait_until(lambda: get(port, "/readyz")[0] == 200, "one is ready", seconds=40)
            await load(QUIET, lambda: (said(port).get("true_rate") or 0) > 15, "the rate is measured")
            assert sized(1)
            await load(BUSY, lambda: sized(4), "there are four")
            await load(QUIET, lambda: sized(1), "there is one")
            wait_for_all(tmp_path, lambda: sent)
            decisions = said(port)["decisions"]
            running.signal(signal.SIGTERM)
            assert running.ends() == 0
    changes = [decision for decision in decisions if decision["before"] != decision["after"]]
    assert [d["before"] for d in changes] == [1, *(d["after"] for d in changes[:-1])]
    assert max(d["after"] for d in changes) == 4 and changes[-1]["after"] == 1
    for decision in changes:
        assert decision["reason"] and {"arrival_rate", "backlog", "true_rate"} <= decision["inputs"].keys()
    assert handled(tmp_path) == Counter(range(sent)), "each once"
