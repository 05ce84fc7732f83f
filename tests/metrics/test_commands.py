"""``pythia health`` and ``pythia scaling explain``: what they print and how they exit."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from pythia_metrics.commands import explanation, health, scaling
from pythia_metrics.server import Answer, Server

DECISION = {
    "wall": 1_700_000_000.0,
    "before": 1,
    "after": 4,
    "raw": 3.4,
    "reason": "drain",
    "confidence": "ok",
    "inputs": {"backlog": 512.0, "lag_threshold": 17.5},
    "observed": {"queues": [{"destination": "orders", "backlog": 512, "oldest_age_s": None}]},
}
SAID = {
    "worker": "w.py",
    "policy": "drain",
    "desired": 4,
    "min": 1,
    "max": 8,
    "ready": 4,
    "true_rate": 10.0,
    "decisions": [DECISION, {**DECISION, "before": 4, "reason": "hold_window", "wall": 1_700_000_005.0}],
}


@pytest.fixture
def url() -> Iterator[str]:
    """Serve answers by hand."""
    server = Server(
        {
            "/scaling": lambda request: Answer(json.dumps(SAID)),
            "/readyz": lambda request: Answer("[-]processes failed\n", status=503),
            "/livez": lambda request: Answer("ok\n"),
        }
    )
    host, port = server.open("127.0.0.1", 0)
    yield f"http://{host}:{port}"
    server.close()


def test_health_exits_by_the_status(url: str) -> None:
    """0 is well, 1 is not, and nobody there is not either."""
    runner = CliRunner()
    assert runner.invoke(health, ["livez", "--url", url]).exit_code == 0
    failed = runner.invoke(health, ["--url", url])
    assert (failed.exit_code, failed.output) == (1, "[-]processes failed\n")
    nobody = runner.invoke(health, ["--url", "http://127.0.0.1:1"])
    assert nobody.exit_code == 1 and "nobody answers at http://127.0.0.1:1" in nobody.output


def test_health_needs_the_standard_library_alone() -> None:
    """It runs every few seconds in a container that has better things to do than to import a metrics library."""
    code = (
        "import sys; from pythia_metrics.commands import health\n"
        "import pythia_metrics.asking\n"
        "heavy = {'prometheus_client', 'opentelemetry', 'anyio', 'psutil', 'starlette', 'uvicorn'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_explain_says_what_was_done_and_by_which_numbers(url: str) -> None:
    """The changes, the last look, and what it would be for KEDA."""
    result = CliRunner().invoke(scaling, ["explain", "--url", url])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "w.py: drain keeps 4 (1 to 8), 4 ready"
    assert lines[2].endswith("1 -> 4: drain")
    assert lines[3].strip() == "backlog 512, lag_threshold 17.5; orders: 512 left, oldest unknown s"
    assert lines[4].endswith("4 stay: hold_window")
    assert lines[-1] == "the same as a KEDA lagThreshold of 18"


def test_explain_without_a_policy_says_so() -> None:
    """Nothing decides where the number is fixed."""
    assert explanation({"policy": None}, 1, False) == ["no policy decides here: see pythia run --policy"]
