"""As process 1 of a container: signals reach it, orphans are reaped, and nothing survives it."""

import contextlib
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.supervisor.running import COMMAND, WORKER, kill, run, wait_for_death
from tests.waiting import wait_until

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def can_unshare() -> bool:
    """Tell whether this user may make a process namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="needs unshare and the right to make a namespace")

# A grandchild whose parent ends at once is handed to process 1; when it has ended too, only process 1 can reap it.
ORPHANS = WORKER.replace(
    'note("startup")',
    """note("startup")
        subprocess.run(["sh", "-c", "sleep 0.1 & echo $! > orphan; sleep 0.1 & sleep 0.1 &"], cwd=HERE)""",
)


def test_process_one_reaps_and_drains(tmp_path: Path) -> None:
    """Inside it is process 1; a stop from outside drains it, and no orphan stays a zombie."""
    command = [*UNSHARE, *COMMAND, "run", str(tmp_path / "jobs.py"), "-n", "2"]
    with run(tmp_path, text=ORPHANS, command=command) as running:
        running.wait_for("begin", 2)
        running.wait_until_ready(2)
        [one] = psutil.Process(running.pid).children()
        assert one.pid != running.pid
        wait_until(lambda: no_strangers(one), "the orphans had been reaped")
        kill(one.pid, signal.SIGTERM)
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0
        assert len(running.events("done")) == 2


def test_a_killed_child_of_process_one_is_replaced(tmp_path: Path) -> None:
    """Reaping everybody still tells whose death it was."""
    command = [*UNSHARE, *COMMAND, "run", str(tmp_path / "jobs.py")]
    with run(tmp_path, command=command) as running:
        running.wait_for("begin")
        running.wait_until_ready(1)
        [one] = psutil.Process(running.pid).children()
        [child] = one.children()
        child.kill()
        running.wait_for_text("ended by SIGKILL")
        running.wait_for("begin", 2)
        pids = [process.pid for process in one.children(recursive=True)]
        one.kill()
        wait_for_death([one.pid, *pids])


def no_strangers(one: psutil.Process) -> bool:
    """Tell whether process 1 has no child but its workers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return all("supervisor.child" in " ".join(child.cmdline()) for child in one.children())
    return False
