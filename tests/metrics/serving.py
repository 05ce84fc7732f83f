"""Starts a real ``pythia scaling serve`` beside a real broker, and asks it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.metrics.running import get
from tests.servers.server import free_port
from tests.supervisor.running import COMMAND, environment

WORKER = """
import anyio

from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer
from pythia.config import WorkerConfig


class Orders(Worker):
    source = RedisStreamsConsumer("orders", consumer_group="g", url="redis://127.0.0.1:PORT/0")
    config = WorkerConfig(drain_timeout=5)

    async def process(self, message):
        await anyio.sleep(0.01)
"""


def write_worker(folder: Path, port: int) -> Path:
    """Write a worker that reads the stream ``orders`` of the server on a port."""
    file = folder / "orders.py"
    file.write_text(WORKER.replace("PORT", str(port)))
    return file


@attrs.frozen
class Serving:
    """One that was started."""

    popen: subprocess.Popen[bytes]
    log: Path
    http: int
    grpc: int

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Return the status and what is published; nothing while nobody listens."""
        status, body = get(self.http, "/v1/scaling/orders")
        return status, json.loads(body) if status in (200, 503) else {}

    def end(self) -> int:
        """Have it end, and return its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(30)


@contextmanager
def serve(folder: Path, file: Path, *arguments: str) -> Iterator[Serving]:
    """Serve a worker file over HTTP and gRPC on free ports."""
    http, grpc, log = free_port(), free_port(), folder / "serve.log"
    command = [
        *COMMAND,
        "scaling",
        "serve",
        str(file),
        "--listen",
        str(http),
        "--grpc",
        str(grpc),
        *arguments,
    ]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment()
        )
    try:
        yield Serving(popen, log, http, grpc)
    finally:
        popen.kill()
        popen.wait(20)
