"""One /metrics for N real processes: the guide's collector, the user's own metrics, deaths and restarts."""

import signal
import time
from pathlib import Path

from tests.metrics.running import alone, get, metrics, monitored, total, wait_for, worker
from tests.servers.server import free_port
from tests.supervisor.running import kill, run
from tests.waiting import wait_until


def test_two_processes_are_one_endpoint_that_never_falls(tmp_path: Path) -> None:
    """Sums of both, with the user's own; one that is killed keeps its share, and its successor adds to it."""
    with monitored(tmp_path, "-n", "2") as (running, port):
        first, _ = running.wait_for("startup", 2)
        wait_for(port, "jobs_seen_total", lambda value: value == 20, kind="good")
        wait_for(port, "pythia_messages_total", lambda value: value == 18, outcome="done")
        wait_for(port, "pythia_dead_letters_total", lambda value: value == 2)
        wait_for(port, "messaging_client_consumed_messages_total", lambda value: value == 20)
        wait_for(port, "messaging_process_duration_seconds_count", lambda value: value == 20)
        found = metrics(port)
        assert len(found["last_job"]) == 2
        assert {dict(labels)["process"] for labels in found["last_job"]} == {"0", "1"}
        assert found["messages_processed_total"] and found["message_processing_seconds_bucket"]
        assert total(port, "process_memory_usage_bytes") > 20_000_000
        assert 0 < total(port, "process_cpu_time_seconds_total") < 60
        kill(first, signal.SIGKILL)
        lowest = 20.0
        deadline = time.monotonic() + 20
        while lowest < 30 and time.monotonic() < deadline:
            now = total(port, "jobs_seen_total")
            assert now >= lowest, "a counter fell"
            lowest = max(lowest, now)
        assert lowest == 30
        wait_for(port, "pythia_process_restarts_total", lambda value: value == 1)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0


def test_the_guides_collector_needs_no_flag(tmp_path: Path) -> None:
    """Made in code, it has the supervisor listen, with the name of the queue, how much is left, and its age."""
    port = free_port()
    with run(tmp_path, text=worker(f'listen="{port}"')) as running:
        running.wait_for_text(f"metrics and health at http://127.0.0.1:{port}/metrics")
        wait_for(port, "jobs_seen_total", lambda value: value == 10)
        wait_until(lambda: "pythia_queue_messages" in metrics(port), "the queue was asked", seconds=20)
        (labels,) = (dict(key) for key in metrics(port)["queue_size"])
        assert labels["messaging_destination_name"] == "jobs" and labels["messaging_system"] == "memory"
        assert total(port, "queue_size") == 0
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert get(port, "/livez")[0] == 0


def test_a_worker_alone_answers_for_itself(tmp_path: Path) -> None:
    """``python worker.py``: the same paths, with one process."""
    port = free_port()
    with alone(tmp_path, port) as popen:
        wait_until(lambda: get(port, "/readyz")[0] == 200, "it is ready", seconds=20)
        wait_for(port, "jobs_seen_total", lambda value: value == 10)
        wait_for(port, "pythia_messages_total", lambda value: value == 9, outcome="done")
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(20) == 0


def test_a_port_in_use_stops_no_worker_that_asked_in_code(tmp_path: Path) -> None:
    """Four workers on one machine are four that work; it is said which cannot be seen."""
    port = free_port()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with alone(tmp_path / "a", port), alone(tmp_path / "b", port):
        for folder in ("a", "b"):
            wait_until((tmp_path / folder / "events").exists, f"{folder} works", seconds=20)
        logs = [tmp_path / "a" / "log", tmp_path / "b" / "log"]
        wait_until(
            lambda: sum(f"cannot listen on 127.0.0.1:{port}" in log.read_text() for log in logs) == 1,
            "one of them said so",
            seconds=20,
        )


def test_a_port_in_use_ends_a_run_that_asked_for_it(tmp_path: Path) -> None:
    """Said on the command line it is a demand: nothing starts, and the line says what to do."""
    with monitored(tmp_path) as (_, port):
        wait_until(lambda: get(port, "/livez")[0] == 200, "the first listens", seconds=20)
        (tmp_path / "second").mkdir()
        with run(tmp_path / "second", "--listen", str(port), text=worker()) as second:
            assert second.ends() == 1
            assert "give another port" in second.output()
            assert not second.events()


def test_probes_tell_starting_ready_and_stopping_apart(tmp_path: Path) -> None:
    """Live all the time; ready once one consumes; not ready while it drains, and still live."""
    text = worker().replace(
        "async def startup(self):", "async def startup(self):\n        await gate('open')"
    )
    text = text.replace(
        "class Jobs",
        "async def gate(name):\n    while not (HERE / name).exists():\n        await anyio.sleep(0.01)\n\n\nclass Jobs",
    )
    text = text.replace("self.seen.labels", "await gate('done')\n        self.seen.labels")
    with monitored(tmp_path, text=text) as (running, port):
        wait_until(lambda: get(port, "/startupz")[0] == 200, "its workers are loaded", seconds=20)
        assert get(port, "/livez") == (200, "ok\n")
        status, said = get(port, "/readyz?verbose")
        assert status == 503
        assert "[+]loop ok" in said and "[-]processes failed: 0 of 1 ready" in said
        (tmp_path / "open").touch()
        wait_until(lambda: get(port, "/readyz")[0] == 200, "it is ready", seconds=20)
        running.wait_for("startup")
        running.signal(signal.SIGTERM)
        wait_until(lambda: get(port, "/readyz")[0] == 503, "it drains", seconds=20)
        assert "[-]running failed: a stop is under way" in get(port, "/readyz")[1]
        assert get(port, "/livez/loop")[0] == 200
        (tmp_path / "done").touch()
        assert running.ends() == 0
