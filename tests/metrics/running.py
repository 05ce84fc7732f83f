"""Runs real workers that are monitored, and asks them."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.servers.server import free_port
from tests.supervisor.running import Running, environment, run
from tests.waiting import wait_until

WORKER = """
import json, os
from pathlib import Path

import anyio
import prometheus_client

from pythia import Worker
from pythia.brokers.memory import MemoryBroker, MemoryConsumer
from pythia.config import WorkerConfig
from pythia.monitoring import MetricsCollector

HERE = Path(__file__).parent
BROKER = MemoryBroker()


def note(what):
    with open(HERE / "events", "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid()}) + "\\n")


class Jobs(Worker):
    source = MemoryConsumer("jobs", broker=BROKER)
    config = WorkerConfig(drain_timeout=3, retry={"attempts": 1})

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.metrics = MetricsCollector(LISTEN)
        self.seen = prometheus_client.Counter("jobs_seen_total", "Jobs seen", ["kind"])
        self.last = prometheus_client.Gauge("last_job", "The last job")

    async def startup(self):
        for number in range(10):
            BROKER.publish("jobs", {"id": number})
        note("startup")

    async def process(self, message):
        self.seen.labels("good").inc()
        self.last.set(message.body["id"])
        if message.body["id"] == 9:
            raise ValueError("a dead letter")
"""


def worker(listen: str = "") -> str:
    """Return the worker's text; ``listen`` are the collector's arguments."""
    return WORKER.replace("LISTEN", listen)


@contextmanager
def monitored(folder: Path, *arguments: str, text: str | None = None) -> Iterator[tuple[Running, int]]:
    """Run a supervisor that listens on a free port, and return both."""
    port = free_port()
    with run(folder, "--listen", str(port), *arguments, text=text or worker()) as running:
        yield running, port


@contextmanager
def alone(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker without a supervisor."""
    file = folder / "alone.py"
    file.write_text(worker(f'listen="{port}"') + "\nif __name__ == '__main__':\n    Jobs().run()\n")
    with (folder / "log").open("wb") as log:
        popen = subprocess.Popen(
            [sys.executable, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    try:
        yield popen
    finally:
        popen.kill()
        popen.wait(20)


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and body; (0, why) if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


def metrics(port: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return all samples by name and labels, as Prometheus's parser reads them."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    status, text = get(port, "/metrics")
    for family in text_string_to_metric_families(text if status == 200 else ""):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(port: int, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels; 0 if there are none."""
    samples = metrics(port).get(name, {})
    return sum(value for key, value in samples.items() if labels.items() <= dict(key).items())


def wait_for(port: int, name: str, judge: Callable[[float], bool], **labels: str) -> float:
    """Wait until a metric's sum is as it should be, and return it."""
    last: list[Any] = [None]

    def good() -> bool:
        last[0] = total(port, name, **labels)
        return judge(last[0])

    wait_until(good, f"{name} {labels} is as it should be", seconds=20)
    return float(last[0])
