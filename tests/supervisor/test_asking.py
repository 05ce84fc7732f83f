"""Workers are asked for their opinion in a spare process, and a burst of work scales them by it and back."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis import Redis

from pythia_core import Worker
from pythia_core.supervisor import asking
from pythia_core.supervisor.spare import AGAIN_SECONDS, Spare
from pythia_core.supervisor.wire import Options
from tests.servers.redis import RedisServer
from tests.supervisor.running import is_alive, run
from tests.waiting import wait_until

WORKER = """
import json, os
from pathlib import Path
import anyio, psutil
from pythia_core import Worker, WorkerConfig
from pythia_redis import RedisStreamsAdmin, RedisStreamsConsumer

LOG = os.open(Path(__file__).parent / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(what, **more):
    os.write(LOG, json.dumps({"what": what, "pid": os.getpid(), **more}).encode() + b"\\n")


class Jobs(Worker):
    source = RedisStreamsConsumer("jobs")
    config = WorkerConfig(max_concurrent_tasks=4, limits={"messages": 20})

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale_check_interval = 0.2
        self.admin = RedisStreamsAdmin()

    async def startup(self):
        note("startup")

    async def process(self, message):
        await anyio.sleep(0.01)
        note("done", id=message.body["id"])

    async def should_scale_up(self):
        note("asked")
        psutil.cpu_percent(interval=0.1)
        return await self.admin.get_consumer_lag("jobs", "jobs") > 100

    async def should_scale_down(self):
        return await self.admin.get_consumer_lag("jobs", "jobs") == 0
"""


@pytest.fixture
def client(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bare client, on a Redis that the workers find too."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    with Redis(port=redis_server.port) as client:
        yield client


def publish(client: Any, numbers: range) -> None:
    """Write so many entries by the bare client."""
    with client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            pipeline.xadd("jobs", {"body": b'{"id": %d}' % number})
        pipeline.execute()


def test_a_burst_scales_by_the_workers_own_word_and_back(client: Any, tmp_path: Path) -> None:
    """From one process to four under load and back to one: nothing is lost and nothing is done twice."""
    sent = 0
    with run(tmp_path, "--policy", "worker", "--min", "1", "--max", "4", text=WORKER) as running:

        def four_under_load() -> bool:
            nonlocal sent
            done = running.pids("done")
            if sent - len(done) < 1_500:  # never so few that they would scale in
                publish(client, range(sent, sent := sent + 500))
            return sum(map(is_alive, set(done))) == 4

        wait_until(four_under_load, "four processes were at work", seconds=60)
        wait_until(lambda: len(running.events("done")) >= sent, "all was done", seconds=30)
        started = running.pids("startup")
        wait_until(lambda: sum(map(is_alive, started)) == 1, "one process was left", seconds=30)
        asked, worked = set(running.pids("asked")), set(running.pids("done"))
        assert len(worked) >= 4
        assert not asked & {*worked, *started}  # the spare handles nothing
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
    assert Counter(event["id"] for event in running.events("done")) == Counter(range(sent))
    assert client.xpending("jobs", "jobs")["pending"] == 0
    assert not any(map(is_alive, asked))


def test_workers_without_an_opinion_are_told_once_and_work_on(tmp_path: Path) -> None:
    """The policy has nobody to ask: that is an error in the log, and no reason to stop."""
    with run(tmp_path, "--policy", "worker", "--max", "2") as running:
        running.wait_for_text("no worker of")
        running.open_gate()
        running.wait_for("done")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert running.output().count("has should_scale_up or should_scale_down") == 1


CONTENT = """
from pythia_core import Worker
from pythia_core.brokers.memory import MemoryConsumer


class Jobs(Worker):
    source = MemoryConsumer("jobs")
    scale_check_interval = 0.05

    async def should_scale_up(self):
        return False

    async def process(self, message): ...
"""


def test_a_spare_that_died_is_replaced_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at once, since it would die again at once; its last answers stay, and the new one is heard."""
    (tmp_path / "worker.py").write_text(CONTENT)
    spare, now = Spare(Options(target=str(tmp_path / "worker.py"))), 100.0
    with closing(spare), caplog.at_level("INFO"):
        wait_until(lambda: spare.look(now), "the first was heard", seconds=30)
        (first,) = pids(caplog)
        os.kill(first, signal.SIGKILL)

        def seen() -> bool:
            spare.look(now)
            return "ended with -9" in caplog.text

        wait_until(seen, "its end was seen", seconds=30)
        for later in (0.0, 1.0, AGAIN_SECONDS - 0.1):
            spare.look(now + later)
        assert pids(caplog) == [first] and spare.opinions["jobs"].change == 0
        now += AGAIN_SECONDS
        wait_until(lambda: spare.look(now), "the second was heard", seconds=30)
        assert spare.opinions["jobs"].at == now
        (_, second) = pids(caplog)
    assert not is_alive(second)


def pids(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the spare processes that were started."""
    return [int(pid) for pid in re.findall(r"whether to scale started, pid (\d+)", caplog.text)]


class Opinionated(Worker[Any]):
    """Says what it was told to say, or raises it."""

    up: Any = False
    down: Any = False

    async def should_scale_up(self) -> bool:
        return self._say(self.up)

    def should_scale_down(self) -> bool:  # type: ignore[override]
        return self._say(self.down)

    def _say(self, word: Any) -> bool:
        if isinstance(word, Exception):
            raise word
        return bool(word)


@pytest.mark.parametrize(
    ("up", "down", "change"),
    [
        (True, True, 1),
        (False, True, -1),
        (False, False, 0),
        (RuntimeError("no"), True, None),
        (False, OSError(), None),
    ],
)
async def test_more_comes_before_fewer_and_an_error_is_no_answer(
    up: Any, down: Any, change: int | None
) -> None:
    """A plain function will do too, and who raises changes nothing."""
    worker = Opinionated()
    worker.up, worker.down = up, down
    assert await asking.ask(worker) == change


@pytest.mark.parametrize("blocking", [True, False])
async def test_an_answer_that_comes_late_is_none(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it waited or blocked, what it says is of another time."""
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.05)

    class Late(Worker[Any]):
        async def should_scale_up(self) -> bool:
            if blocking:
                time.sleep(0.06)  # noqa: ASYNC251 - as psutil.cpu_percent(interval=...) does
            else:
                await anyio.sleep(60)
            return True

    assert await asking.ask(Late()) is None
