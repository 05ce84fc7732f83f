"""``pythia loadtest``: figures for people and for programs, and an exit code that says whether all was well."""

import json
from pathlib import Path

import pytest

from tests.command.conftest import WORKER, Pythia
from tests.servers.server import free_port

QUICK = ("--rate", "400", "--seconds", "0.25")

FAILING = """
from pythia_core import Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryConsumer


class Failing(Worker):
    source = MemoryConsumer("fails")
    config = WorkerConfig(retry={"attempts": 1})

    async def process(self, message):
        if message.body["colour"] == "red":
            raise ValueError("red")
"""


def test_a_good_worker_is_shown_to_be_good(pythia: Pythia, folder: Path) -> None:
    """People get a table, a plot, and one sentence that says what is proven."""
    (folder / "worker.py").write_text(WORKER)
    done = pythia("loadtest", "worker.py", *QUICK, "--plot", "latency.svg")
    assert done.exit_code == 0, done.output
    assert "• half of the messages" in done.output
    assert "worker.py: 400 messages a second, 1 process" in (folder / "latency.svg").read_text()
    assert "latency of 99 %" in done.output
    assert "✓ each of 100 was processed once" in done.output


def test_programs_get_json(pythia: Pythia, folder: Path) -> None:
    """All figures, by the names that they have in Python."""
    (folder / "worker.py").write_text(WORKER)
    found = json.loads(pythia("loadtest", "worker.py", *QUICK, "--json").stdout)
    assert found["proven"] is True
    assert (found["sent"], found["done"], found["lost"]) == (100, 100, 0)
    assert found["percentiles"]["50"] <= found["percentiles"]["99.9"]


def test_messages_of_a_file_are_sent_in_turn_and_faults_are_told(
    pythia: Pythia, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two colours one fails for good: half of all, each one an error, and the exit code is 1."""
    (folder / "worker.py").write_text(FAILING)
    (folder / "lines").write_text('{"colour": "red"}\n{"colour": "blue"}\n')
    monkeypatch.setattr("pythia_core.testing.load.DRAIN_SECONDS", 0.3)
    done = pythia("loadtest", "worker.py", *QUICK, "--messages", "lines")
    assert done.exit_code == 1
    assert "✗ 50 failed at every attempt so far" in done.output
    assert "50.00%" in done.output


def test_a_plot_that_cannot_be_written_is_told_before_the_test(pythia: Pythia, folder: Path) -> None:
    """Not after half an hour of it."""
    (folder / "worker.py").write_text(WORKER)
    done = pythia("loadtest", "worker.py", *QUICK, "--plot", "nowhere/latency.svg")
    assert done.exit_code == 1 and "nowhere" in done.output and "processed a second" not in done.output


@pytest.mark.parametrize(("text", "what"), [("", "is empty"), ("{", "a line that is not JSON")])
def test_a_file_without_messages_is_refused(pythia: Pythia, folder: Path, text: str, what: str) -> None:
    """The error says what a line has to be."""
    (folder / "worker.py").write_text(FAILING)
    (folder / "lines").write_text(text)
    done = pythia("loadtest", "worker.py", "--messages", "lines")
    assert done.exit_code == 1 and what in done.output


def test_one_of_several_workers_has_to_be_named(pythia: Pythia, folder: Path) -> None:
    """A load is put on one of them."""
    (folder / "worker.py").write_text(WORKER.partition("if __name__")[0] + FAILING)
    done = pythia("loadtest", "worker.py")
    assert done.exit_code == 1 and "name one, worker.py:OrderProcessor" in done.output


def test_a_file_of_stages_is_loaded_as_a_pipeline(pythia: Pythia, folder: Path) -> None:
    """All of its workers, in its order."""
    first = WORKER.partition("\nif __name__")[0]
    (folder / "worker.py").write_text(
        first
        + """

class Second(Worker):
    source = MemoryConsumer("done")

    async def process(self, message): ...
"""
    )
    done = pythia("loadtest", "worker.py", *QUICK, "--pipeline")
    assert done.exit_code == 0, done.output
    assert "each of 100 was processed once" in done.output and "100, 100" in done.output


def test_a_broker_that_is_away_is_told_at_once(
    pythia: Pythia, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any process is started, which would wait for it a minute."""
    monkeypatch.setenv("PYTHIA_PLUGINS", "redis")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    (folder / "worker.py").write_text(ON_REDIS)
    done = pythia("loadtest", "worker.py", *QUICK)
    assert done.exit_code == 1 and "Redis at 127.0.0.1" in done.output


ON_REDIS = """
from pythia_core import Worker
from pythia_redis import RedisStreamsConsumer


class OnRedis(Worker):
    source = RedisStreamsConsumer("orders")

    async def process(self, message): ...
"""


@pytest.mark.parametrize("command", ["loadtest", "config", "dead-letters list"])
def test_a_file_that_does_not_load_is_shown_by_its_own_lines(
    pythia: Pythia, folder: Path, command: str
) -> None:
    """No line of Pythia's or of the import system's stands between them."""
    (folder / "worker.py").write_text("import nowhere_at_all\n")
    done = pythia(*command.split(), "worker.py")
    assert done.exit_code == 1
    assert "worker.py cannot be loaded" in done.output and "line 1" in done.output
    assert "No module named 'nowhere_at_all'" in done.output and "pythia_core" not in done.output


@pytest.mark.parametrize("target", [".", "./", ".."])
def test_a_folder_is_no_target(pythia: Pythia, folder: Path, target: str) -> None:
    """The error says what could be meant."""
    (folder / "worker.py").write_text(WORKER)
    done = pythia("config", target)
    assert done.exit_code == 1 and "is a folder; name a file in it" in done.output
    assert target == ".." or "worker.py" in done.output
