"""What a process cannot end by itself, its own end does: leftovers of a revoke under the real supervisor."""

import signal
from pathlib import Path

from tests.supervisor.running import WORKER, run

STUBBORN = WORKER.replace("drain_timeout=8", "drain_timeout=0.3")
STUBBORN = STUBBORN.replace(
    'MemoryConsumer("jobs", broker=BROKER)',
    'MemoryConsumer("jobs", broker=BROKER, ack="cumulative", rebalances="eager", revoke_seconds=0.5)',
)
STUBBORN = STUBBORN.replace(
    'note("begin")',
    'note("begin")\n'
    "        with anyio.CancelScope(shield=True):\n"
    '            await BROKER.revoke(*BROKER.members("jobs", "jobs"))\n'
    "            await anyio.sleep_forever()",
)
STUBBORN = STUBBORN.replace(
    "import json,", "import pythia_core.supervisor.serving as it; it.KILL_GRACE = 0.5\nimport json,"
)


def test_a_process_with_a_leftover_that_never_ends_is_replaced(tmp_path: Path) -> None:
    """Its partition is somebody else's by now, so it drains what else it has and exits with the watchdog's code."""
    with run(tmp_path, text=STUBBORN) as running:
        first, second = running.wait_for("startup", 2)
        assert first != second
        assert "goes on though it was cancelled" in running.output()
        assert "ended stuck (exit code 70)" in running.output()
        running.signal(signal.SIGTERM)
        running.ends()
