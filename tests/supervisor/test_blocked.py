"""A handler that blocks the event loop is named while it does, in a real child."""

import re
import signal
import threading
import time
from pathlib import Path

import pytest

from pythia_core import blocked
from tests.supervisor.running import WORKER, run, wait_for_death

SOON = "import pythia_core.blocked as it; it.BLOCKED = 1.0; it.LOOK = 0.1\nimport json,"


@pytest.mark.parametrize(
    "block",
    ["time.sleep(6)", "end = time.monotonic() + 6\n        while time.monotonic() < end: pass"],
    ids=["sleeps", "computes"],
)
def test_a_handler_that_blocks_the_loop_is_named_and_the_process_not_ready(
    tmp_path: Path, block: str
) -> None:
    """The supervisor learns of it while it lasts; the stack is logged once, and afterwards how long it took."""
    text = WORKER.replace("import json,", SOON, 1).replace('note("begin")', f'note("begin")\n        {block}')
    with run(tmp_path, text=text) as running:
        running.wait_for("begin")
        running.wait_for_text("process 1 is not ready: its event loop is blocked for")
        assert re.search(r"blocked for \d+ s by Jobs\.process \(.*jobs\.py:\d+\)", running.output())
        running.wait_for_text("and turns again")
        assert re.search(r"was blocked for [5-9]\.\d s", running.output())
        assert running.output().count("has not turned for") == 1
        assert "in process" in running.output()
        running.wait_until_ready(1)
        running.open_gate()
        running.wait_for("done")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0


def test_a_process_that_is_blocked_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    """Its loop obeys nothing, and nobody is left to kill it: so it ends itself when its drain and some grace are over."""
    text = WORKER.replace(
        "import json,", "import pythia_core.supervisor.serving as it; it.KILL_GRACE = 1.0\nimport json,", 1
    )
    text = text.replace('note("begin")', 'note("begin")\n        time.sleep(600)')
    with run(tmp_path, "-o", "drain_timeout=0", text=text) as running:
        blocked = running.wait_for("begin")
        running.signal(signal.SIGKILL)
        wait_for_death(blocked)


def test_a_process_that_was_halted_is_not_called_blocked(caplog: pytest.LogCaptureFixture) -> None:
    """Who sees that it has not run itself blames nobody."""
    guard = blocked.LoopGuard()
    guard._beat = time.monotonic() - 60
    waits = iter([False, True])

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return next(waits)

    guard._over = Clock()
    times = iter([0.0, 60.0])
    now = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now + next(times))
        guard._watch()
    assert caplog.records == []
