"""How tests call the command: in this process, with the environment and folder they say."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pythia_core import logs
from pythia_core.command import main
from tests.plugins.conftest import installed

__all__ = ["installed"]

Pythia = Callable[..., Result]

WORKER = """
from pythia_core import Secret, Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryConsumer, MemoryProducer


class OrderProcessor(Worker):
    source = MemoryConsumer("orders")
    sink = MemoryProducer("done")
    config = WorkerConfig(batch_size=5)

    async def process(self, message):
        return message.body


if __name__ == "__main__":
    OrderProcessor().run()
"""


@pytest.fixture
def pythia(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pythia]:
    """Call the command with no plugins but those built in, unless a test says otherwise."""
    levels = {name: logging.getLogger(name).level for name in logs.OWN}
    monkeypatch.setenv("PYTHIA_PLUGINS", "")
    main.__dict__.pop("_discovery", None)
    main.__dict__.pop("_from_plugins", None)

    def call(*arguments: str, **options: Any) -> Result:
        main.__dict__.pop("_discovery", None)
        main.__dict__.pop("_from_plugins", None)
        return CliRunner().invoke(main, arguments, prog_name="pythia", **options)

    yield call
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty folder; what is imported from it is forgotten."""
    before, path = set(sys.modules), sys.path[:]
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def worker(folder: Path) -> Path:
    """Return a good worker's file, in the present folder."""
    path = folder / "orders.py"
    path.write_text(WORKER)
    return path
