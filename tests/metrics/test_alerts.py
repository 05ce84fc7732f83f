"""The alerts: each has a test by promtool, names only metrics that there are, and one is fired by a real Prometheus."""

import http.client
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from pythia_metrics.commands import alerts as command
from pythia_metrics.families import Family
from pythia_metrics.instruments import aliases, of_fleet, of_process
from pythia_metrics.merging import Merger
from pythia_metrics.scaled import Scaled
from tests.metrics.fleets import decisions
from tests.metrics.running import monitored, worker
from tests.metrics.snapshots import queue, snapshot
from tests.servers.server import find_program, free_port
from tests.waiting import wait_until

RULES = Path(str(files("pythia_metrics"))) / "rules" / "pythia.yml"
TESTS = Path(__file__).parent / "rules" / "pythia_test.yml"

SLOW = (
    worker()
    .replace("range(10)", "range(20_000)")
    .replace("drain_timeout=3", "drain_timeout=3, max_concurrent_tasks=5")
    .replace(
        "        self.seen.labels",
        '        if not (HERE / "quick").exists():\n            await anyio.sleep(0.05)\n        self.seen.labels',
    )
)


def test_promtool_passes(tmp_path: Path) -> None:
    """Each alert fires on its symptom, and not on what looks like it."""
    for file in (RULES, TESTS):
        shutil.copy(file, tmp_path)
    promtool = find_program("promtool")
    result = subprocess.run(
        [promtool, "test", "rules", TESTS.name], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_command_prints_the_rules() -> None:
    """So that they can be put where Prometheus reads them, from an installed wheel too."""
    assert CliRunner().invoke(command, []).output == RULES.read_text()


def test_every_alert_has_a_test() -> None:
    """An alert that nobody has seen fire is a hope."""
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert len(alerts) == 12
    assert set(re.findall(r"alertname: (\w+)", TESTS.read_text())) == alerts


def test_rules_name_only_metrics_that_there_are() -> None:
    """A rule over a name with a typo never fires, and nobody notices."""
    said = set(re.findall(r"\b((?:pythia|process|messaging)_\w+)\b", RULES.read_text()))
    names = said - {"messaging_destination_name", "messaging_consumer_group_name", "messaging_system"}
    assert names <= everything() and len(names) > 10


def everything() -> set[str]:
    """Return the names of all metrics that a monitor can show."""
    worker_report: dict[str, Any] = {
        "name": "w",
        "system": "kafka",
        "destination": "o",
        "group": "g",
        "counters": {},
        "paused": ["x"],
        "durations": [0] * 15,
        "duration_sum": 0.0,
        "operations": {"settle": [[0] * 15, 0.0]},
        "stuck": [],
    }
    merger = Merger()
    merger.take(1, 0, of_process({"workers": [worker_report], "cpu": [0.0, 0.0], "gc": [[1, 2, 0]]}))
    shown = snapshot(
        queues=(queue(backlog=1, in_flight=1, partitions=1, partitions_with_lag=1, max_partition_lag=1),)
    )
    fleet = {
        "snapshot": shown,
        "children": [],
        "target": 1,
        "restarts": 0,
        "policy": "drain",
        "policy_failures": 0,
        "decisions": decisions(0.0),
    }
    found: list[Family] = [*merger.families(), *of_fleet(fleet), *Scaled().families()]
    return {family.name for family in (*found, *aliases(found))}


@contextmanager
def prometheus(folder: Path, scraped: int) -> Iterator[int]:
    """Run a Prometheus on the shipped rules, with seconds for minutes, and return its port."""
    text = RULES.read_text().replace("for: 2m", "for: 2s")
    (folder / "rules.yml").write_text(text)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [rules.yml]\n"
        f"scrape_configs: [{{job_name: w, static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]}}]\n"
    )
    port = free_port()
    log = (folder / "prometheus.log").open("wb")
    popen = subprocess.Popen(
        [
            find_program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        yield port
    finally:
        popen.kill()
        popen.wait(20)
        log.close()


def alerts(port: int) -> dict[str, str]:
    """Return the state of each alert that is pending or firing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v1/alerts")
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError):
        return {}
    finally:
        connection.close()
    return {alert["labels"]["alertname"]: alert["state"] for alert in answer["data"]["alerts"]}


def test_a_real_prometheus_fires_and_resolves_high_message_lag(tmp_path: Path) -> None:
    """20,000 messages at 100 a second take too long; once they are done, nothing is wrong."""
    with monitored(tmp_path, text=SLOW) as (running, port), prometheus(tmp_path, port) as server:
        wait_until(lambda: alerts(server).get("HighMessageLag") == "firing", "the alert fires", seconds=60)
        (tmp_path / "quick").touch()
        wait_until(lambda: "HighMessageLag" not in alerts(server), "it is resolved", seconds=60)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
