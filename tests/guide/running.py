"""Loads the snippets' files and runs their workers, as a user would, and reads what they wrote down."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio

from pythia import Worker
from tests.guide.snippets import FOLDER

_numbers = itertools.count(1)


def load(file: str) -> ModuleType:
    """Import a snippet's file afresh: its sources read the environment of this test."""
    spec = importlib.util.spec_from_file_location(f"guide_snippet_{next(_numbers)}", FOLDER / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def serving(*workers: Worker[Any]) -> AsyncIterator[None]:
    """Serve workers in this event loop for one block."""
    async with anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(worker.serve)
        yield
        group.cancel_scope.cancel()


class Notes:
    """What the workers wrote down, in this process and in others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def by_process(self, kind: str) -> dict[int, list[Any]]:
        """Return the notes of a kind, by the process's id."""
        found = {}
        for file in self.folder.iterdir():
            lines = map(json.loads, file.read_text().rpartition("\n")[0].splitlines())
            if values := [value for noted, value in lines if noted == kind]:
                found[int(file.name)] = values
        return found

    def __call__(self, kind: str) -> list[Any]:
        """Return the notes of a kind."""
        return [value for values in self.by_process(kind).values() for value in values]
