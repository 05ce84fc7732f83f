"""A real fleet whose broker does not answer keeps its size; how one grows and shrinks is seen by `nox -s scaling`."""

import signal
from pathlib import Path

from tests.metrics.long_scaling import WORKER, said
from tests.metrics.running import get
from tests.servers.server import free_port
from tests.supervisor.running import run
from tests.waiting import wait_until


def test_a_broker_that_is_down_changes_nothing(tmp_path: Path) -> None:
    """A broker that is not there is unknown, which holds what there is."""
    port = free_port()
    text = WORKER.replace("URL", "redis://127.0.0.1:1/0")
    with run(tmp_path, "--listen", str(port), "--min", "2", "--max", "4", text=text) as running:
        wait_until(
            lambda: bool(said(port).get("decisions")),
            "it decided",
            seconds=30,
        )
        decision = said(port)["decisions"][-1]
        assert (decision["before"], decision["after"]) == (2, 2)
        assert decision["confidence"] == "unknown" and decision["reason"] == "hold_unknown"
        assert get(port, "/livez")[0] == 200 and get(port, "/readyz")[0] == 503
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
