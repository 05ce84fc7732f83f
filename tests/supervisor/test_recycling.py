"""A worker that leaks is replaced before it is killed, under the real supervisor, and nothing is lost or done twice."""

import signal
from collections import Counter
from pathlib import Path

from tests.supervisor.running import COMMAND, run

LEAKY = '''
import json, os
from pathlib import Path
import anyio
from pythia_core import Limits, Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer

HERE = Path(__file__).parent
BROKER = MemoryBroker()
LEAK = []


def note(what, **more):
    """Append one event, in one write."""
    with open(HERE / "events", "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\\n")


class Jobs(Worker):
    source = MemoryConsumer("jobs", broker=BROKER)
    config = WorkerConfig(drain_timeout=8, max_memory_mb=160, max_concurrent_tasks=2, limits=Limits(messages=4))

    async def startup(self):
        note("startup")
        for number in range(40):
            BROKER.publish("jobs", {"id": number})

    async def process(self, message):
        """Leak 10 MiB, all of it touched, in the first two processes."""
        note("begin", id=message.body["id"])
        await anyio.sleep(0.1)
        if sum('"startup"' in line for line in (HERE / "events").read_text().splitlines()) <= 2:
            LEAK.append(bytearray(os.urandom(1 << 20) * 10))
        note("done", id=message.body["id"])

    async def shutdown(self):
        left = len(BROKER.waiting("jobs", "jobs")) + len(BROKER.pending("jobs", "jobs"))
        note("shutdown", left=left, settled=len(BROKER.settled("jobs", "jobs")))
'''


def test_a_worker_that_leaks_is_recycled(tmp_path: Path) -> None:
    """Both go, one after the other, each with 75: what was begun was done once and settled, the rest was given back."""
    soon = "from pythia_core.supervisor import machine; machine.STEADY = 0; "
    command = [COMMAND[0], "-c", soon + COMMAND[2], "run", str(tmp_path / "jobs.py"), "-n", "2"]
    with run(tmp_path, text=LEAKY, command=command) as running:
        old = running.wait_for("startup", 2)
        running.wait_for_text("to be recycled (exit code 75)", 2)
        running.wait_for("startup", 4)
        order = [event["pid"] for event in running.events() if event["what"] in ("startup", "shutdown")]
        first_gone = next(pid for pid in order[2:] if pid in old)
        assert order[2:4] == [first_gone, order[3]] and order[3] not in old  # one at a time
        ends = {event["pid"]: event for event in running.events("shutdown")}
        for pid in old:
            begun = Counter(event["id"] for event in running.events("begin") if event["pid"] == pid)
            done = Counter(event["id"] for event in running.events("done") if event["pid"] == pid)
            assert begun == done and set(begun.values()) == {1}
            assert 0 < len(done) < 40
            assert ends[pid]["settled"] == len(done) and ends[pid]["left"] == 40 - len(done)
        assert "max_memory_mb=160" in running.output()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
