"""A worker that leaks, on a real stream: what a recycled process gives back its successor does, and nobody twice."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.servers.redis import RedisServer
from tests.supervisor.running import COMMAND, Running, run
from tests.waiting import wait_until

MESSAGES = 200

LEAKY = """
import json, os
from pathlib import Path
import anyio
from pythia_core import Worker, WorkerConfig
from pythia_redis import RedisStreamsConsumer

HERE = Path(__file__).parent
LEAK = []


def note(what, **more):
    with open(HERE / "events", "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\\n")


class Jobs(Worker):
    source = RedisStreamsConsumer("jobs", url="URL")
    config = WorkerConfig(drain_timeout=8, max_memory_mb=160, max_concurrent_tasks=2, limits={"messages": 20})

    async def startup(self):
        note("startup")

    async def process(self, message):
        await anyio.sleep(0.02)
        if sum('"startup"' in line for line in (HERE / "events").read_text().splitlines()) <= 2:
            LEAK.append(bytearray(os.urandom(1 << 20) * 10))
        note("done", id=message.body)
"""


def done(running: Running) -> Counter[int]:
    """Return how often each message was done."""
    return Counter(event["id"] for event in running.events("done"))


@pytest.mark.slow
def test_what_a_recycled_process_gives_back_is_done_once(tmp_path: Path, redis_server: RedisServer) -> None:
    """Two leak until `max_memory_mb` stops them; both are replaced, and every message is done by one of the four, once."""
    with redis.Redis(port=redis_server.port) as client:
        for number in range(MESSAGES):
            client.xadd("jobs", {"body": str(number)})
    soon = "from pythia_core.supervisor import machine; machine.STEADY = 0; "
    command = [COMMAND[0], "-c", soon + COMMAND[2], "run", str(tmp_path / "jobs.py"), "-n", "2"]
    with run(tmp_path, text=LEAKY.replace("URL", redis_server.url), command=command) as running:
        old = running.wait_for("startup", 2)
        running.wait_for_text("to be recycled (exit code 75)", 2)
        wait_until(lambda: len(done(running)) == MESSAGES, "every message is done", seconds=60)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert done(running) == Counter(range(MESSAGES))
        assert "max_memory_mb=160" in running.output()
        assert {event["pid"] for event in running.events("done")} > set(old), (
            "others went on where they ended"
        )
    with redis.Redis(port=redis_server.port) as client:
        pending: Any = client.xpending("jobs", "jobs")
        assert pending["pending"] == 0
