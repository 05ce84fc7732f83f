"""The Lua scripts: what must be looked at and changed in one step. They stand as files in ``lua/``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs

__all__ = [
    "ABANDON",
    "BACKLOG",
    "BEGIN",
    "DUE",
    "FORGET",
    "HOLD",
    "MOVE",
    "REAP",
    "SEEK",
    "SETTLE",
    "TAKE",
    "TOKENS",
    "TRIM",
    "Script",
]


@attrs.frozen
class Script:
    """A script and the name by which Redis caches it."""

    text: str
    sha: str


def _load(name: str) -> Script:
    text = Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ABANDON = _load("abandon")
BACKLOG = _load("backlog")
BEGIN = _load("begin")
DUE = _load("due")
FORGET = _load("forget")
HOLD = _load("hold")
MOVE = _load("move")
REAP = _load("reap")
SEEK = _load("seek")
SETTLE = _load("settle")
TAKE = _load("take")
TOKENS = _load("tokens")
TRIM = _load("trim")
