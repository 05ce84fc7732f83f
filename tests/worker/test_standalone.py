"""`python worker.py`, without a supervisor: the same signals mean the same."""

import signal
import sys
import time
from pathlib import Path

import pytest

from pythia_core.signals import FORCE_AFTER, StopSignals
from tests.supervisor.running import WORKER, run
from tests.waiting import wait_until

ALONE = WORKER + "\n\nif __name__ == '__main__':\n    Jobs().run()\n    note('after')\n"


def python(folder: Path) -> list[str]:
    """Return how a user starts it."""
    return [sys.executable, str(folder / "jobs.py")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_run_returns(tmp_path: Path, number: signal.Signals) -> None:
    """A burst of them too; a clean end goes on after run(), with 0."""
    with run(tmp_path, command=python(tmp_path), text=ALONE) as running:
        running.wait_for("begin")
        for _ in range(3):
            running.signal(number)
        running.wait_for_text("draining")
        running.open_gate()
        assert running.ends() == 0
        assert [event["what"] for event in running.events()] == [
            "startup",
            "begin",
            "done",
            "shutdown",
            "after",
        ]


def test_what_follows_run_has_all_the_time_it_wants(tmp_path: Path) -> None:
    """The last resort against a worker that does not end is gone once it has."""
    text = ALONE.replace("import json,", "import pythia_core.standalone as it; it.GRACE = 0.1\nimport json,")
    text = text.replace("drain_timeout=8", "drain_timeout=0.5").replace(
        "note('after')", "time.sleep(1.5); note('after')"
    )
    with run(tmp_path, command=python(tmp_path), text=text) as running:
        running.wait_for("begin")
        running.open_gate()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0, running.output()
        assert running.events("after")


def test_a_second_signal_two_seconds_later_forces(tmp_path: Path) -> None:
    """The job is abandoned."""
    with run(tmp_path, command=python(tmp_path), text=ALONE) as running:
        running.wait_for("begin")
        running.signal(signal.SIGTERM)
        running.wait_for_text("draining")
        insist = time.monotonic() + FORCE_AFTER + 0.1
        wait_until(lambda: time.monotonic() > insist, "two seconds had passed", seconds=5)
        running.signal(signal.SIGTERM)
        asked = time.monotonic()
        running.ends()
        assert time.monotonic() - asked < 4
        assert running.events("done") == []


def test_a_wrong_setting_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    """No traceback: there is nothing in it for the author."""
    text = ALONE.replace("source = MemoryConsumer", "no_source = MemoryConsumer")
    with run(tmp_path, command=python(tmp_path), text=text) as running:
        assert running.ends() == 1
        assert "worker jobs has no source" in running.output()
        assert "Traceback" not in running.output()


def test_a_startup_that_raises_is_exit_code_one(tmp_path: Path) -> None:
    """With its traceback in the log, for whoever restarts it."""
    text = ALONE.replace('note("startup")', 'raise ValueError("bad luck")')
    with run(tmp_path, command=python(tmp_path), text=text) as running:
        assert running.ends() == 1
        assert "ValueError: bad luck" in running.output()


@pytest.mark.parametrize(
    "hang",
    [
        "await self.offload(time.sleep, 1000)",
        "with anyio.CancelScope(shield=True): await anyio.sleep_forever()",
    ],
    ids=["thread", "shield"],
)
def test_a_handler_that_never_ends_does_not_keep_the_process(tmp_path: Path, hang: str) -> None:
    """Nothing can stop a thread or a shield, so the process exits around it, with the watchdog's code."""
    text = ALONE.replace("while not (HERE", f"{hang}\n        while not (HERE")
    text = text.replace(
        "import json,", "import pythia_core.standalone as standalone; standalone.GRACE = 0.2\nimport json,"
    )
    text = text.replace("drain_timeout=8", "drain_timeout=0.3")
    with run(tmp_path, command=python(tmp_path), text=text) as running:
        running.wait_for("begin")
        running.signal(signal.SIGTERM)
        assert running.ends() == 70
        assert "something blocks it" in running.output()


@pytest.mark.parametrize(
    ("times", "meanings"),
    [
        ([0.0], ["stop"]),
        ([0.0, 0.01, 1.99], ["stop", None, None]),
        ([0.0, 2.0], ["stop", "force"]),
        ([0.0, 0.1, 5.0, 9.0], ["stop", None, "force", None]),
    ],
)
def test_an_echo_is_no_second_wish(times: list[float], meanings: list[str | None]) -> None:
    """Only a signal that comes two seconds after the first, or later, is somebody who insists."""
    signals = StopSignals()
    assert [signals.heard(moment) for moment in times] == meanings
