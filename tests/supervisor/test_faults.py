"""What is wrong with a worker file is said once, by name and line, and ends the command where nothing else would help."""

import json
import signal
from pathlib import Path

import pytest

from tests.supervisor.running import COMMAND, WORKER, kill, run


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class Jobs(:\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("import os\nos.environ['NO_SUCH_VARIABLE']\n", "KeyError: 'NO_SUCH_VARIABLE'"),
        ("raise SystemExit(3)\n", "exits while it is imported"),
        ("x = 1\n", "defines no worker"),
        ("from pythia_core import Worker\nclass Jobs(Worker): pass\n", "has a process(self, message)"),
        (
            "from pythia_core import Worker\nclass Jobs(Worker):\n    async def process(self, message): pass\n",
            "worker jobs has no source",
        ),
        (WORKER + "\n    def __init__(self, shop): ...\n", "cannot be made without shop"),
    ],
    ids=["syntax", "import", "environment", "exit", "empty", "process", "source", "arguments"],
)
def test_a_file_that_cannot_run_ends_the_command(tmp_path: Path, text: str, told: str) -> None:
    """Every child says the same, so it is printed once, without the framework's own lines, and the exit code is 1."""
    with run(tmp_path, "-n", "2", text=text) as running:
        assert running.ends() == 1
        assert running.output().count(told) == 1, running.output()
        assert "giving up" in running.output()
        assert "pythia_core/loader.py" not in running.output()


def test_an_error_shows_the_authors_line(tmp_path: Path) -> None:
    """The traceback begins in his file."""
    with run(tmp_path, text="def boom():\n    return 1 / 0\nboom()\n") as running:
        assert running.ends() == 1
        assert 'jobs.py", line 2, in boom' in running.output()


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    """The nearest name is offered."""
    (tmp_path / "jobs.py").write_text(WORKER)
    with run(tmp_path, command=[*COMMAND, "run", str(tmp_path / "job.py")]) as running:
        assert running.ends() == 1
        assert "did you mean jobs.py?" in running.output()


def test_processes_that_do_not_fit_into_the_container_do_not_start(tmp_path: Path) -> None:
    """4 x 512 + 64 is more than 0.85 of 2,000 MiB: better said now than found out by the kernel."""
    for name, text in {
        "proc/self/cgroup": "0::/pod\n",
        "sys/fs/cgroup/pod/memory.max": str(2000 << 20),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = WORKER + "\nfrom pythia_core import budget\nbudget.memory_limit.__defaults__ = (HERE,)\n"
    with run(tmp_path, "-n", "4", "-o", "max_memory_mb=512", text=text) as running:
        assert running.ends() == 1
        assert running.output().count("4 x max_memory_mb 512 + 64 for the supervisor is 2112 MiB") == 1
        assert running.events() == []


def test_a_drain_that_the_source_does_not_wait_for_does_not_start(tmp_path: Path) -> None:
    """The broker would give the partition to another while this one still drains."""
    text = WORKER.replace(
        '"jobs", broker=BROKER',
        '"jobs", broker=BROKER, ack="cumulative", rebalances="eager", revoke_seconds=5',
    )
    with run(tmp_path, text=text) as running:
        assert running.ends() == 1
        assert "drain_timeout is 8 s (code), but jobs waits only 5 s" in running.output()


def test_an_unknown_setting_ends_before_anything_starts(tmp_path: Path) -> None:
    """The command line is checked by the supervisor itself."""
    with run(tmp_path, "-o", "bach_size=3") as running:
        assert running.ends() == 1
        assert "did you mean batch_size?" in running.output()
        assert running.events() == []


def test_a_startup_that_raises_is_tried_again(tmp_path: Path) -> None:
    """A database may come back: the error is logged with its traceback and the process replaced after a wait."""
    text = WORKER.replace('note("startup")', 'note("startup"); raise ConnectionError("no database")')
    with run(tmp_path, text=text) as running:
        running.wait_for("startup", 2)
        assert "no database" in running.output()
        assert "the next starts in" in running.output()


def test_a_source_that_is_down_keeps_the_processes(tmp_path: Path) -> None:
    """No restart, not ready, the reason in the log, and work as soon as it is back."""
    text = (
        WORKER
        + """

class Down(type(Jobs.source)):
    async def subscribe(self, owner):
        if not (HERE / "gate").exists():
            raise ConnectionError("connection refused")
        return await super().subscribe(owner)


Jobs.source = Down("jobs", broker=BROKER)
"""
    )
    with run(tmp_path, text=text) as running:
        (child,) = running.wait_for("startup")
        running.wait_for_text("is not ready: jobs: ConnectionError: connection refused")
        running.open_gate()
        running.wait_until_ready(1)
        assert running.wait_for("done") == [child]


def test_several_workers_share_each_process(tmp_path: Path) -> None:
    """Without a class every worker of the file runs; with one only that."""
    text = (
        WORKER
        + """

class More(Jobs):
    source = MemoryConsumer("more", broker=BROKER)

    async def startup(self):
        note("more")


Jobs().run()  # a last line for `python jobs.py` is no hindrance
"""
    )
    with run(tmp_path, text=text) as running:
        assert running.wait_for("startup") == running.wait_for("more")


def test_one_class_alone(tmp_path: Path) -> None:
    """FILE:CLASS runs nothing else."""
    text = (
        WORKER
        + "\n\nclass More(Jobs):\n    async def startup(self):\n        note('more', size=Runtime_size(self))\n"
    )
    text = text.replace("Runtime_size(self)", "self.config.drain_timeout")
    command = [*COMMAND, "run", f"{tmp_path / 'jobs.py'}:More"]
    with run(tmp_path, text=text, command=command) as running:
        running.wait_for("more")
        running.wait_until_ready(1)
        assert running.events("startup") == []


def test_figures_of_dead_children_are_kept(tmp_path: Path) -> None:
    """The last line sums what all processes did, also those that are gone."""
    with run(tmp_path) as running:
        running.open_gate()
        (child,) = running.wait_for("done")
        running.wait_until_ready(1)
        kill(child, signal.SIGTERM)
        running.wait_for("done", 2)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert " 2 done" in running.output()


def test_logs_are_json_for_machines(tmp_path: Path) -> None:
    """Supervisor and children alike."""
    with run(tmp_path, "-n", "2", "--log-format", "json") as running:
        running.wait_for("begin", 2)
        running.open_gate()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        lines = [json.loads(line) for line in running.output().splitlines()]
        assert {line.get("who") for line in lines} == {None, "process 1", "process 2"}


@pytest.mark.parametrize(("waits_for", "ends"), [("itself", True), ("a broker", False)])
def test_a_fleet_that_is_never_ready_ends_for_a_reason_of_its_own_only(
    tmp_path: Path, waits_for: str, ends: bool
) -> None:
    """Five minutes (here seconds) without anybody ready: exit 1 with the reason; not while a broker is down."""
    text = WORKER.replace('note("startup")', 'note("startup"); await anyio.sleep(1000)')
    if waits_for == "a broker":
        text = WORKER + (
            "\n\nclass Down(type(Jobs.source)):\n    async def subscribe(self, owner):\n"
            '        note("refused")\n        raise ConnectionError("connection refused")\n\n\n'
            'Jobs.source = Down("jobs", broker=BROKER)\n'
        )
    seconds = 5 if ends else 2  # it has to have begun to start, on a busy machine too
    hurry = f"from pythia_core.supervisor import hope; hope.HOPE_SECONDS = {seconds}; "
    command = [COMMAND[0], "-c", hurry + COMMAND[2], "run", str(tmp_path / "jobs.py")]
    with run(tmp_path, text=text, command=command) as running:
        if ends:
            assert running.ends() == 1
            assert "giving up: no process was ready for" in running.output()
            assert "startup() is running" in running.output()
        else:
            running.wait_for("refused", 5)  # the fifth comes after some 4 s
            assert "giving up" not in running.output()
            running.signal(signal.SIGTERM)
            assert running.ends() == 0


@pytest.mark.parametrize("output", [">/dev/full", "> >(exec true)"], ids=["full disk", "reader gone"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, output: str, processes: int) -> None:
    """The disk is full, or whoever read the log has gone: jobs are done, and a stop is a clean one."""
    command = ["bash", "-c", f'exec "$@" {output} 2>&1', "bash", *COMMAND, "run", str(tmp_path / "jobs.py")]
    with run(tmp_path, "-n", str(processes), command=command) as running:
        running.wait_for("begin", processes)
        running.open_gate()
        running.wait_for("done", processes)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert len(running.events("shutdown")) == processes
