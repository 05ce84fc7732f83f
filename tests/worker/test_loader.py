"""Which workers a file or a module has, and what is said if it has none."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pythia_core import ConfigError
from pythia_core.loader import load_workers
from pythia_core.worker import importing

FILE = """
from pythia_core import Worker
from pythia_core.brokers.memory import MemoryConsumer
from neighbour import Imported


class Base(Worker):
    async def process(self, message): ...


class First(Base):
    source = MemoryConsumer("first")


class Second(Base):
    source = MemoryConsumer("second")


class NoProcess(Worker): ...


Alias = First
instance = First()
First().run()
"""

NEIGHBOUR = """
from pythia_core import Worker


class Imported(Worker):
    async def process(self, message): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with two files, where the test is; what is imported is forgotten after it."""
    (tmp_path / "jobs.py").write_text(FILE)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(target: str) -> list[str]:
    """Return what is loaded."""
    return [kind.__name__ for kind in load_workers(target)]


@pytest.mark.parametrize("target", ["jobs.py", "./jobs.py", "jobs"])
def test_a_file_runs_what_it_defines(target: str) -> None:
    """In its order, each once; not what it imports, not a base, not what has no process. Its last line is ignored."""
    assert names(target) == ["First", "Second"]


@pytest.mark.parametrize("target", ["jobs.py:Base", "jobs:Base"])
def test_a_class_that_is_named_is_taken(target: str) -> None:
    """Whatever it is: who names it means it."""
    assert names(target) == ["Base"]


def test_an_imported_class_can_be_named() -> None:
    """It is a name of that file."""
    assert names("jobs.py:Imported") == ["Imported"]


def test_a_worker_can_be_pickled() -> None:
    """The file has a name of its own among the modules, as process pools need it."""
    (first, _) = load_workers("jobs.py")
    assert pickle.loads(pickle.dumps(first)) is first  # noqa: S301


def test_a_file_called_like_a_library_leaves_the_library_alone(folder: Path) -> None:
    """json.py is a bad name and no reason to break everybody else's import of json."""
    import json

    (folder / "json.py").write_text(FILE)
    assert names("json.py") == ["First", "Second"]
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("job.py", r"there is no file .*job\.py; did you mean jobs\.py\?"),
        ("nowhere/jobs.py", r"there is no file .*nowhere/jobs\.py$"),
        ("jbos", r"there is no file or module 'jbos' .*did you mean jobs\?"),
        ("jobs:Frist", r"jobs has no class 'Frist'; did you mean First\?"),
        ("jobs:instance", r"is no Worker class but an instance of First: name its class"),
        ("neighbour:Path", r"neighbour has no class 'Path'; known: Imported"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(target: str, told: str) -> None:
    """Every error offers what there is."""
    with pytest.raises(ConfigError, match=told):
        load_workers(target)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "defines no worker; write a class"),
        ("from neighbour import Imported", r"only imports Imported; name one: file\.py:Imported"),
        ("from pythia_core import Worker\nclass A(Worker): ...", r"has a process\(self, message\): A"),
    ],
)
def test_a_file_without_workers_says_what_it_has(folder: Path, text: str, told: str) -> None:
    """Nothing defined, only imported, or nothing to call."""
    (folder / "file.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_workers("file.py")


def test_an_import_that_fails_inside_is_the_files_own_error(folder: Path) -> None:
    """A module that is there and cannot be imported is not said to be missing."""
    (folder / "broken.py").write_text("import not_there")
    for target in ("broken.py", "broken"):
        with pytest.raises(ModuleNotFoundError, match="not_there"):
            load_workers(target)
    assert "broken" not in sys.modules


def test_serve_does_nothing_while_its_file_is_imported(folder: Path) -> None:
    """A last line that serves is what `python FILE` is to do; afterwards it serves."""
    last = "import anyio\nseen = anyio.run(First().serve)\nIMPORTED = True\n"
    (folder / "serves.py").write_text(FILE.replace("First().run()", last))
    assert [kind.__name__ for kind in load_workers("serves.py")] == ["First", "Second"]
    assert sys.modules["serves"].IMPORTED
    assert not importing.get()


def test_a_file_is_itself_whatever_the_way_to_it(folder: Path) -> None:
    """By another way it is not imported as if it were another file that hides a module."""
    (folder / "inner").mkdir()
    (first, _) = load_workers("jobs.py")
    (again, _) = load_workers("inner/../jobs.py")
    assert (first.__module__, again.__module__) == ("jobs", "jobs")
