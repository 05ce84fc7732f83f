"""One turn: a contender or a subject, run once in a process of its own, which never outlives this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from bench.run import Measurement
from tests.servers import die_with_parent

ROOT = Path(__file__).parents[1]
LONGEST = 180.0  # seconds that one turn may take; most take a few

Place = Callable[[int], AbstractContextManager[Mapping[str, str]]]


@attrs.frozen
class Turn:
    """What came out of a turn.

    Args:
        measured: what its clocks say, or None if it did not use them.
        figures: what it measured by itself, by name.
    """

    measured: Measurement | None
    figures: Mapping[str, float]


def shim() -> list[str]:
    """Return what a command begins with if it shall end with this process, however that ends."""
    return [sys.executable, "-IS", die_with_parent.__file__, str(os.getpid())]


def turn(name: str, function: str, messages: int, place: Mapping[str, str]) -> Turn:
    """Run ``function`` (``module:name``) once.

    Raises:
        RuntimeError: if it failed; a figure is never made of the turns that happened to work.
    """
    order = json.dumps({"contender": function, "messages": messages, "place": dict(place)})
    child = subprocess.run(
        [*shim(), sys.executable, "-m", "bench.child", order],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LONGEST,
    )
    if child.returncode:
        raise RuntimeError(f"{name!r} ended with exit code {child.returncode}; its output is above.")
    told = json.loads(child.stdout)
    return Turn(Measurement(**told["measured"]) if told["measured"] else None, told["figures"])
