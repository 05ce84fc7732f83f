"""Work in processes: bounded, killed on cancellation, restored after a crash, and never left behind."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from pythia_core import Message, RetryPolicy, Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.offloading import processes
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from tests.supervisor.running import WORKER, run, wait_for_death
from tests.waiting import eventually


def hang(file: Path) -> None:
    """Say who runs, and never end."""
    file.with_suffix(".new").write_text(str(os.getpid()))
    file.with_suffix(".new").rename(file)
    time.sleep(1000)


def die() -> None:
    """Crash as native code does."""
    os.kill(os.getpid(), signal.SIGKILL)


def be_signalled() -> int:
    """Hear what a terminal or a service manager sends to a whole group."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return os.getpid()


class Picky(Exception):
    """Does not survive a pickle: its arguments are not those of __init__."""

    def __init__(self, order: int, why: str) -> None:
        super().__init__(f"order {order}: {why}")


def refuse() -> None:
    """Raise such a one."""
    raise Picky(7, "no stock")


def convert(number: str) -> int:
    """Raise a ValueError for what is no number."""
    return int(number)


async def in_process(func: Any, *args: Any) -> Any:
    """Offload as a handler does."""
    return await Worker[Any]().offload(func, *args, to="process")


async def test_a_process_is_used_again_whatever_its_job_did() -> None:
    """Signals for the whole group, errors of any kind and sys.exit change nothing."""
    pid = await in_process(be_signalled)
    assert pid != os.getpid()
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await in_process(convert, "x")
    assert "in convert" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="Picky: order 7: no stock"):
        await in_process(refuse)
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        await in_process(sys.exit, 3)
    assert await in_process(os.getpid) == pid


async def test_what_cannot_be_sent_is_said() -> None:
    """A lambda lives in no module."""
    with pytest.raises(Exception, match="lambda") as caught:
        await in_process(lambda: 1)
    assert "only a function of a module" in caught.value.__notes__[0]


async def test_a_cancelled_job_is_killed(tmp_path: Path) -> None:
    """Unlike a thread; the next has a process of its own."""
    file = tmp_path / "pid"
    async with anyio.create_task_group() as group:
        group.start_soon(in_process, hang, file)
        await eventually(file.exists, "the job ran", seconds=30)
        group.cancel_scope.cancel()
    wait_for_death([int(file.read_text())], seconds=30)
    assert await in_process(os.getpid) != int(file.read_text())


async def test_processes_are_bounded(tmp_path: Path) -> None:
    """A second job waits for the first."""
    bound = anyio.CapacityLimiter(1)
    mark = processes.set(bound)
    first, second = tmp_path / "first", tmp_path / "second"
    async with anyio.create_task_group() as group:
        group.start_soon(in_process, hang, first)
        await eventually(first.exists, "the first ran", seconds=30)
        group.start_soon(in_process, hang, second)
        await eventually(lambda: bound.statistics().tasks_waiting == 1, "the second waited")
        group.cancel_scope.cancel()
    assert not second.exists()
    processes.reset(mark)


@pytest.mark.parametrize(
    ("work", "error"), [((die,), "BrokenProcess"), ((time.sleep, 1000), "HandlerTimeout")]
)
async def test_only_the_message_whose_process_broke_fails(work: tuple[Any, ...], error: str) -> None:
    """It is a dead letter after its attempts; its slot and those beside it work on."""
    broker, done = MemoryBroker(), []

    class Jobs(Worker[Any]):
        source = MemoryConsumer("jobs", broker=broker)
        config = WorkerConfig(
            retry=RetryPolicy(attempts=2, base=0.01),
            handler_timeout=1.0 if error == "HandlerTimeout" else None,
            max_concurrent_tasks=1,
        )

        async def process(self, message: Message[Any]) -> Any:
            if message.body == "bad":
                await self.offload(*work, to="process")
            done.append(message.body)

    for body in ("first", "bad", "last"):
        broker.publish("jobs", body)
    runner = Runtime(Jobs(), environ={}, registry=Registry())
    async with anyio.create_task_group() as group:
        group.start_soon(runner.run)
        ended = lambda: len(done) == 2 and broker.dead_letters("jobs")
        await eventually(ended, "all came to an end", seconds=40)
        runner.stop()
    (letter,) = broker.dead_letters("jobs")
    assert error in str(list(letter.headers.values()))


ALONE = WORKER.replace(
    "class Jobs",
    """
def work():
    note("begin")
    while not (HERE / "gate").exists():
        time.sleep(0.01)
    note("done")


class Jobs""",
).replace(
    WORKER[WORKER.index('        note("begin")\n') : WORKER.index("    async def shutdown")],
    '        await self.offload(work, to="process")\n\n',
)


def python(folder: Path) -> list[str]:
    """Return how a user starts it."""
    return [sys.executable, str(folder / "jobs.py")]


def test_no_process_outlives_a_worker_that_is_killed(tmp_path: Path) -> None:
    """The kernel ends it, in the middle of its job. A file without its last line guarded starts no second worker."""
    with run(tmp_path, command=python(tmp_path), text=ALONE + "\n\nJobs().run()\n") as running:
        (pid,) = running.wait_for("begin")
        assert pid != running.pid
        running.signal(signal.SIGKILL)
        wait_for_death([pid], seconds=30)
        assert len(running.events("startup")) == 1


def test_a_signal_to_the_whole_group_drains(tmp_path: Path) -> None:
    """As Ctrl-C or systemd send it: the job ends in its own time, and its process with the worker."""
    with run(tmp_path, text=ALONE) as running:
        (pid,) = running.wait_for("begin")
        for process in (pid, running.pid):
            os.kill(process, signal.SIGTERM)
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0, running.output()
        assert len(running.events("done")) == 1
        wait_for_death([pid], seconds=30)
