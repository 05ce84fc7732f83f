"""A worker's file changes while it runs: the next process has the new one, and a broken one takes nobody's place."""

import os
import signal
from pathlib import Path

import pytest

from pythia_core.supervisor.reload import Sources, sources_of
from tests.supervisor.running import WORKER, run


def write(path: Path, text: str, moment: int) -> None:
    """Write a file, at a moment that no clock's coarseness can confuse with another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(moment, moment))


def test_a_change_is_told_once_and_when_it_is_over(tmp_path: Path) -> None:
    """While files are still being written nothing is told; made and removed files count."""
    write(tmp_path / "a.py", "", 1)
    sources = Sources(tmp_path)
    assert sources.changed() == []
    write(tmp_path / "a.py", "", 2)
    assert sources.changed() == []
    write(tmp_path / "pkg" / "b.py", "", 1)
    assert sources.changed() == []
    assert sources.changed() == [str(tmp_path / "a.py"), str(tmp_path / "pkg" / "b.py")]
    assert sources.changed() == []
    (tmp_path / "a.py").unlink()
    assert (sources.changed(), sources.changed()) == ([], [str(tmp_path / "a.py")])


@pytest.mark.parametrize("path", [".venv/x.py", "site-packages/x.py", "__pycache__/x.py", "data.json"])
def test_what_is_not_the_workers_is_not_looked_at(tmp_path: Path, path: str) -> None:
    """Installed packages, caches, data."""
    sources = Sources(tmp_path)
    write(tmp_path / path, "", 1)
    assert (sources.changed(), sources.changed()) == ([], [])


def test_a_configuration_is_looked_at(tmp_path: Path) -> None:
    """Wherever it is."""
    write(tmp_path / "conf" / "pythia.toml", "", 1)
    write(tmp_path / "src" / "w.py", "", 1)
    sources = sources_of(str(tmp_path / "src" / "w.py") + ":Class", str(tmp_path / "conf" / "pythia.toml"))
    assert sources.folder == tmp_path / "src"
    write(tmp_path / "conf" / "pythia.toml", "", 2)
    assert (sources.changed(), len(sources.changed())) == ([], 1)


def test_a_module_is_looked_for_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name says nothing of its folder without importing it, which a supervisor never does."""
    monkeypatch.chdir(tmp_path)
    assert sources_of("workers.orders:Orders", None).folder == tmp_path


def test_a_change_restarts_and_a_broken_one_does_not(tmp_path: Path) -> None:
    """The old process goes on until a file comes that works."""
    with run(tmp_path, "--reload") as running:
        running.wait_for("begin")
        running.wait_until_ready(1)
        write(tmp_path / "jobs.py", "this is no Python", 1)
        running.wait_for_text("jobs.py has changed")
        running.wait_for_text("the rolling restart is halted")
        running.open_gate()
        running.wait_for("done")
        write(tmp_path / "jobs.py", WORKER.replace('note("startup")', 'note("started anew")'), 2)
        running.wait_for("started anew")
        running.wait_for_text("the rolling restart is done")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
