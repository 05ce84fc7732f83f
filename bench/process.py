"""A worker process: what it weighs, how long it takes to be there, and to import what it imports.

Everything is run twice and measured the second time, so that its bytecode is there, as it is wherever a program is
installed: this has a folder of its own for it, since some machines are told to write none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import redis

from bench.probe import Figure, Probe, Subject
from bench.redis import GROUP, PACKAGES, STREAM, filled_server
from bench.run import Run
from bench.turn import shim

WORKER = f"""
import os, time

from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer

class Bench(Worker):
    source = RedisStreamsConsumer({STREAM!r}, consumer_group={GROUP!r})
    handled = 0

    async def process(self, message):
        self.handled += 1
        message.body
        if self.handled == 1:
            print(time.monotonic(), time.process_time(), flush=True)
        if self.handled == int(os.environ["BENCH_MESSAGES"]):
            print(os.getpid(), flush=True)

if __name__ == "__main__":
    Bench().run()
"""
IMPORT = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import pythia
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


@contextmanager
def _bytecode() -> Iterator[dict[str, str]]:
    """Return an environment in which bytecode is kept."""
    with TemporaryDirectory() as folder:
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        yield environ | {"PYTHONPYCACHEPREFIX": folder}


async def imports(run: Run) -> None:
    """Import the front door in a fresh interpreter, its bytecode written before."""
    command = [*shim(), sys.executable, "-c", IMPORT]
    with _bytecode() as environ:
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environ)
        told = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60, env=environ
        ).stdout
    wall, cpu = map(float, told.split())
    run.figures.update({"import pythia": wall * 1000, "its CPU": cpu * 1000})


@contextmanager
def _worker(run: Run, environ: dict[str, str], *command: str) -> Iterator[subprocess.Popen[str]]:
    with redis.Redis.from_url(run.place["url"]) as client, TemporaryDirectory() as folder:
        client.xgroup_create(STREAM, GROUP, id="0")
        Path(folder, "worker.py").write_text(WORKER)
        environ |= {"REDIS_URL": run.place["url"], "BENCH_MESSAGES": str(run.messages)}
        with subprocess.Popen(
            [*shim(), sys.executable, *command], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
        client.xgroup_destroy(STREAM, GROUP)


def _look(run: Run, *command: str) -> None:
    with _bytecode() as environ:
        _measure(run, environ, *command)
        _measure(run, environ, *command)


def _measure(run: Run, environ: dict[str, str], *command: str) -> None:
    began = time.monotonic()
    with _worker(run, environ, *command) as process:
        assert process.stdout is not None
        first, cpu = map(float, process.stdout.readline().split())
        run.figures.update({"first message": first - began, "its CPU": cpu})
        pid = int(process.stdout.readline())
        run.figures["rss"] = psutil.Process(pid).memory_info().rss / 1e6


async def alone(run: Run) -> None:
    """Start a worker from its file, and look at it once it has handled all messages."""
    _look(run, "worker.py")


async def supervised(run: Run) -> None:
    """Do the same with a supervisor and one process, of which the process is looked at."""
    _look(run, str(Path(sys.executable).with_name("pythia")), "run", "worker.py", "-n", "1")


IMPORTED = [Figure("import pythia", "ms", most=150), Figure("its CPU", "ms")]
STARTED = [Figure("first message", "s", most=1.0), Figure("its CPU", "s"), Figure("rss", "MB", most=60)]

BENCHES = [
    Probe(
        name="process",
        title="a worker of Redis Streams in a process of its own: start to first message, and memory after all of them",
        messages=20_000,
        few=1000,
        subjects=[
            Subject("a fresh interpreter", "bench.process:imports", IMPORTED),
            Subject("python worker.py", "bench.process:alone", STARTED),
            Subject("pythia run worker.py -n 1", "bench.process:supervised", STARTED),
        ],
        place=filled_server,
        packages=PACKAGES,
        programs=["redis-server"],
        rounds=5,
    )
]
