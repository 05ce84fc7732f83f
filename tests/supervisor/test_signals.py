"""Signals on real processes: however they come, work that was begun is finished once, and nothing is left behind."""

import json
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pythia_core.signals import FORCE_AFTER
from tests.supervisor.running import (
    COMMAND,
    WORKER,
    Running,
    is_alive,
    kill,
    run,
    run_on_terminal,
    wait_for_death,
)
from tests.waiting import wait_until


def drained(running: Running) -> None:
    """Every job that was begun was done, by who began it, and everybody shut down once."""
    assert sorted(running.pids("begin")) == sorted(running.pids("done")), running.output()
    assert sorted(running.pids("shutdown")) == sorted(running.pids("startup")), running.output()
    assert not any(is_alive(pid) for pid in running.pids("startup"))


def children(running: Running) -> list[int]:
    """Return the process ids of the supervisor's children."""
    return [child.pid for child in psutil.Process(running.pid).children()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_drains(tmp_path: Path, number: signal.Signals) -> None:
    """What is at work ends, then everything does, with 0."""
    with run(tmp_path, "-n", "2") as running:
        running.wait_for("begin", 2)
        running.signal(number)
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0
        drained(running)


def test_ctrl_c_twice_is_one_drain(tmp_path: Path) -> None:
    """A terminal signals every process of its group, and people press twice; no job is skipped for it."""
    with run_on_terminal(tmp_path, "-n", "2") as (running, terminal):
        running.wait_for("begin", 2)
        terminal.type(b"\x03\x03")
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0
        drained(running)
        assert "abandoned" not in running.output()


def test_a_process_groups_signal_is_one_drain(tmp_path: Path) -> None:
    """`kill -- -PGID` reaches the supervisor only: children have sessions of their own."""
    with run(tmp_path, "-n", "2") as running:
        running.wait_for("begin", 2)
        assert all(os.getsid(pid) == pid for pid in children(running))
        os.killpg(running.pid, signal.SIGTERM)
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0
        drained(running)


def test_a_control_groups_signals_are_one_drain(tmp_path: Path) -> None:
    """A service manager signals every process it finds, children too, and again."""
    with run(tmp_path, "-n", "2") as running:
        running.wait_for("begin", 2)
        for pid in [running.pid, *children(running)] * 3:
            kill(pid, signal.SIGTERM)
            kill(pid, signal.SIGINT)
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0
        drained(running)


def test_a_second_signal_two_seconds_later_forces(tmp_path: Path) -> None:
    """Who insists gets his way: the job is abandoned, unsettled, and the end comes at once."""
    with run(tmp_path) as running:
        running.wait_for("begin")
        running.signal(signal.SIGTERM)
        running.wait_for_text("stopping")
        insist = time.monotonic() + FORCE_AFTER + 0.1
        wait_until(lambda: time.monotonic() > insist, "two seconds had passed", seconds=5)
        running.signal(signal.SIGTERM)
        asked = time.monotonic()
        running.ends()
        assert time.monotonic() - asked < 4
        assert running.pids("done") == []
        assert len(running.pids("shutdown")) == 1


def test_children_drain_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """Nobody is left to tell them: the pipe ends, they finish their work and go."""
    with run(tmp_path, "-n", "2") as running:
        orphans = running.wait_for("begin", 2)
        running.wait_until_ready(2)
        running.signal(signal.SIGKILL)
        running.ends()
        wait_until(lambda: running.output().count("supervisor has died") == 2, "they noticed", seconds=5)
        running.open_gate()
        wait_for_death(orphans, 5)
        drained(running)


def test_orphans_do_not_outlive_their_drain(tmp_path: Path) -> None:
    """A job that never ends does not keep an orphan for ever."""
    with run(tmp_path, "-o", "drain_timeout=0.5") as running:
        orphans = running.wait_for("begin")
        running.signal(signal.SIGKILL)
        wait_for_death(orphans, 5)


@pytest.mark.parametrize("how", ["orphaned", "sigterm"])
def test_a_thread_that_never_ends_keeps_no_child(tmp_path: Path, how: str) -> None:
    """Past its drain and its grace a child exits around it, however often it is asked."""
    text = WORKER.replace('note("begin")', 'note("begin")\n        await self.offload(time.sleep, 1000)')
    text = text.replace(
        "import json,", "import pythia_core.supervisor.serving as it; it.KILL_GRACE = 0.5\nimport json,"
    )
    with run(tmp_path, "-o", "drain_timeout=0.5", text=text) as running:
        (child,) = running.wait_for("begin")
        if how == "orphaned":
            running.signal(signal.SIGKILL)
            running.ends()
            wait_for_death([child], 5)
            return
        deadline = time.monotonic() + 5
        while is_alive(child):
            assert time.monotonic() < deadline, running.output()
            with suppress(ProcessLookupError):  # it may end between the look and the signal
                kill(child, signal.SIGTERM)


def test_a_killed_child_is_replaced(tmp_path: Path) -> None:
    """After a wait, by another process in the same slot; the other child notices nothing."""
    with run(tmp_path, "-n", "2") as running:
        first, second = running.wait_for("begin", 2)
        running.wait_until_ready(2)
        kill(first)
        running.wait_for_text("ended by SIGKILL; the next starts in")
        third = running.wait_for("begin", 3)[2]
        assert third not in (first, second)
        assert is_alive(second)
        running.signal(signal.SIGTERM)
        running.open_gate()
        assert running.ends() == 0
        assert running.pids("done").count(second) == 1
        assert "1 restart" in running.output()


def test_a_child_that_is_sent_sigterm_drains_and_is_replaced(tmp_path: Path) -> None:
    """However often it is sent."""
    with run(tmp_path) as running:
        (first,) = running.wait_for("begin")
        running.wait_until_ready(1)
        for _ in range(3):
            kill(first, signal.SIGTERM)
        running.wait_for_text("drains by itself")
        running.open_gate()
        running.wait_for("startup", 2)
        assert running.events("done")[0]["pid"] == first
        assert running.events("shutdown")[0]["pid"] == first
        running.signal(signal.SIGTERM)
        assert running.ends() == 0


def test_hangup_rolls_one_at_a_time(tmp_path: Path) -> None:
    """Each process is replaced by one that is up before it goes, and nobody is missed."""
    with run(tmp_path, "-n", "2") as running:
        old = running.wait_for("begin", 2)
        running.wait_until_ready(2)
        running.open_gate()
        running.signal(signal.SIGHUP)
        running.wait_for_text("rolling restart is done")
        new = [pid for pid in running.pids("startup") if pid not in old]
        assert len(new) == 2
        order = [(event["what"], event["pid"]) for event in running.events()]
        retired = running.pids("shutdown")
        assert sorted(retired) == sorted(old)
        for successor, predecessor in zip(new, retired, strict=True):
            assert order.index(("startup", successor)) < order.index(("shutdown", predecessor))
        assert order.index(("shutdown", retired[0])) < order.index(("startup", new[1]))
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        drained(running)


def test_hangup_halts_at_a_file_that_got_broken(tmp_path: Path) -> None:
    """The old processes keep running, and the log says what is wrong."""
    with run(tmp_path, "-n", "2") as running:
        old = running.wait_for("begin", 2)
        running.wait_until_ready(2)
        (tmp_path / "jobs.py").write_text("class Jobs(:\n")
        running.signal(signal.SIGHUP)
        running.wait_for_text("rolling restart is halted")
        assert re.search(
            r"halted: process 3 ended \(SyntaxError: .*\); the others keep running", running.output()
        )
        assert all(map(is_alive, old))
        running.signal(signal.SIGTERM)
        running.open_gate()
        assert running.ends() == 0


def test_hangup_halts_at_a_process_that_does_not_get_ready(tmp_path: Path) -> None:
    """It is named with what it waits for, it goes, and the old ones keep running."""
    patience = "from pythia_core.supervisor import roll; roll.READY_SECONDS = 2; "
    command = [COMMAND[0], "-c", patience + COMMAND[2], "run", str(tmp_path / "jobs.py"), "-n", "2"]
    with run(tmp_path, command=command) as running:
        old = running.wait_for("begin", 2)
        running.wait_until_ready(2)
        stuck = WORKER.replace('note("startup")', 'note("startup"); await anyio.sleep(1000)')
        (tmp_path / "jobs.py").write_text(stuck)
        running.signal(signal.SIGHUP)
        running.wait_for_text(
            "the rolling restart is halted: process 3 is not ready after 2 s (startup() is running); the others keep running"
        )
        newcomer = running.wait_for("startup", 3)[2]
        wait_for_death([newcomer])
        assert all(map(is_alive, old))
        running.signal(signal.SIGTERM)
        running.open_gate()
        assert running.ends() == 0


def test_processes_are_recycled_one_at_a_time(tmp_path: Path) -> None:
    """Both ask at once: the second drains only when the first one's successor is up; none is a crash, none has to wait."""
    text = (
        WORKER
        + """

import pythia_core.supervisor.serving as it
report = it._Child._report


def report_and_ask(child):
    report(child)
    if (HERE / "tired").exists() and os.getpid() in json.loads((HERE / "tired").read_text()):
        child.ask_to_recycle("memory")


it._Child._report = report_and_ask
"""
    )
    soon = "from pythia_core.supervisor import machine; machine.STEADY = 0; "
    command = [COMMAND[0], "-c", soon + COMMAND[2], "run", str(tmp_path / "jobs.py"), "-n", "2"]
    with run(tmp_path, text=text, command=command) as running:
        old = running.wait_for("begin", 2)
        running.wait_until_ready(2)
        running.open_gate()
        (tmp_path / "new").write_text(json.dumps(old))
        (tmp_path / "new").rename(tmp_path / "tired")
        running.wait_for_text("asks to be recycled: memory", 2)
        running.wait_for_text("to be recycled (exit code 75); the next starts in 0.0 s", 2)
        new = running.wait_for("startup", 4)[2:]
        order = [(event["what"], event["pid"]) for event in running.events()]
        gone = running.pids("shutdown")
        assert sorted(gone) == sorted(old)
        assert order.index(("startup", new[0])) < order.index(("shutdown", gone[1]))
        running.wait_until_ready(4)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        drained(running)


def test_a_terminals_hangup_is_a_stop(tmp_path: Path) -> None:
    """The window is closed: that is not the wish for a rolling restart."""
    with run_on_terminal(tmp_path) as (running, _):
        running.wait_for("begin")
        running.signal(signal.SIGHUP)
        running.wait_for_text("stopping")
        running.open_gate()
        assert running.ends() == 0
        drained(running)


def test_one_more_and_one_fewer(tmp_path: Path) -> None:
    """SIGTTIN adds a process, SIGTTOU drains the idlest, and the last one stays."""
    with run(tmp_path) as running:
        running.wait_for("begin")
        running.wait_until_ready(1)
        running.open_gate()
        running.signal(signal.SIGTTIN)
        running.wait_until_ready(2)
        running.signal(signal.SIGTTOU)
        (gone,) = running.wait_for("shutdown")
        assert gone in running.pids("startup")
        running.signal(signal.SIGTTOU)
        running.wait_for_text("the last process stays")
        assert sum(map(is_alive, running.pids("startup"))) >= 1
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        drained(running)


def test_a_stop_during_an_import_does_not_wait_for_it(tmp_path: Path) -> None:
    """Nothing has been fetched, so nothing has to be drained, however long the import takes."""
    text = WORKER + "\nnote('importing')\ntime.sleep(60)\n"
    with run(tmp_path, "-n", "2", text=text) as running:
        running.wait_for("importing", 2)
        running.signal(signal.SIGTERM)
        asked = time.monotonic()
        assert running.ends() == 0
        assert time.monotonic() - asked < 4


def test_a_stop_cancels_a_startup(tmp_path: Path) -> None:
    """A worker that never gets ready can be stopped, and says what it waits for."""
    text = WORKER.replace('note("startup")', 'note("startup"); await anyio.sleep(1000)')
    with run(tmp_path, text=text) as running:
        (child,) = running.wait_for("startup")
        running.wait_for_text("is not ready: startup() is running")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert not is_alive(child)
        assert running.events("shutdown") == []


def test_nohup_is_kept(tmp_path: Path) -> None:
    """Who was started to ignore hangups ignores them."""
    ignore = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", ignore, *COMMAND, "run", str(tmp_path / "jobs.py")]
    with run(tmp_path, command=command) as running:
        running.wait_for("begin")
        running.signal(signal.SIGHUP)
        running.open_gate()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert "roll" not in running.output()
        drained(running)
