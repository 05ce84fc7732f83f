"""Keeps what was learnt of a deployment in a file, so that a scaler that restarts need not learn it from late messages.

The file is a help and never a must: one that is not there, cannot be read or makes no sense is as good as none.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from pathlib import Path

import attrs

__all__ = ["Keeping", "Learnt"]

LONGEST = 1 << 16  # bytes; what is longer was not written here
SAME = 0.01  # a change of less is none, so that the file is not written for nothing

log = logging.getLogger("pythia.scaling")


@attrs.frozen(kw_only=True)
class Learnt:
    """What was learnt.

    Args:
        true_rate: messages a second that one replica does at its limit.
        best_rate: the most that was seen under a backlog.
        start_s: seconds that one takes to be ready.
    """

    true_rate: float | None = None
    best_rate: float | None = None
    start_s: float | None = None


@attrs.define(eq=False)
class Keeping:
    """A file of what was learnt.

    Args:
        path: where; None keeps nothing.
        worker: whose it is: a file of another worker is as good as none.
    """

    path: Path | None
    worker: str
    _kept: Learnt = attrs.field(factory=Learnt, init=False)
    _failed: bool = attrs.field(default=False, init=False)

    def load(self) -> Learnt:
        """Return what is kept, as far as it makes sense."""
        if self.path is None or not self.path.exists():
            return Learnt()
        try:
            self._kept = _read(self.path, self.worker)
        except (OSError, ValueError) as error:
            log.warning("%s is ignored, what was learnt is learnt anew: %s", self.path, error)
        return self._kept

    def save(self, learnt: Learnt) -> None:
        """Keep it, if it has changed; a file that cannot be written is said once."""
        if self.path is None or _same(learnt, self._kept):
            return
        try:
            _write(self.path, {"worker": self.worker, **attrs.asdict(learnt)})
        except OSError as error:
            if not self._failed:
                log.warning("what was learnt cannot be kept in %s: %s", self.path, error)
            self._failed = True
            return
        self._kept, self._failed = learnt, False


def _read(path: Path, worker: str) -> Learnt:
    with path.open("rb") as file:
        data = json.loads(file.read(LONGEST))
    if not isinstance(data, dict) or data.get("worker") != worker:
        raise ValueError(f"it is not of {worker}")
    values = {name: data.get(name) for name in attrs.fields_dict(Learnt)}
    for name, value in values.items():
        if value is not None and not (_number(value) and value > 0):
            raise ValueError(f"{name} is {value!r}; it must be a number above 0")
    return Learnt(**values)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _write(path: Path, data: dict[str, object]) -> None:
    """Write it beside and rename it, so that whoever reads sees one or the other, also after a crash."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _same(one: Learnt, other: Learnt) -> bool:
    pairs = zip(attrs.astuple(one), attrs.astuple(other), strict=True)
    return all(a == b or (a and b and abs(a - b) <= SAME * max(a, b)) for a, b in pairs)
