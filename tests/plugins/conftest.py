"""What tests of plugins share: a place to install some, and a way to see whether one was imported."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.handmade import Handmade

TOY = Path(__file__).parent / "toy"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handmade]:
    """Return a place of installed distributions that this interpreter sees; what it imports from there is forgotten."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield Handmade(tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    importlib.invalidate_caches()
