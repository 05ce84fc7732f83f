"""The history: what each process wrote down of what it did, one line an event, which survives a kill -9 of the writer.

An event is one `write` to a file that only one process appends to. The page cache is enough, since no machine loses its
power here; a last line that a kill cut short is left out.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson


@attrs.frozen
class Event:
    """Something that happened.

    Args:
        what: the kind of event; the others of its kind have the same `more`.
        time: seconds of the monotonic clock, which all processes of a machine share.
        by: process id of whoever wrote it down.
        id: of the message that it is about, or "".
        more: what else is known.
    """

    what: str
    time: float
    by: int = 0
    id: str = ""
    more: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


class Log:
    """Appends the events of one process to a file of its own.

    Args:
        folder: where the files of a history are.
        name: who writes; the process id is added.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._pid = os.getpid()
        path = folder / f"{name}-{self._pid}-{time.monotonic_ns()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: str, id: str = "", **more: Any) -> None:
        """Write an event down, as of now."""
        line = {"what": what, "time": time.monotonic(), "by": self._pid, "id": id, "more": more}
        os.write(self._file, orjson.dumps(line) + b"\n")


def read_events(folder: Path, kinds: str = "*") -> list[Event]:
    """Return the events of a history, or of some of its writers, in the order of their times."""
    events = [event for path in folder.glob(f"{kinds}.jsonl") for event in _read(path)]
    return sorted(events, key=lambda event: event.time)


def _read(path: Path) -> Iterator[Event]:
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for line in whole.splitlines():
        yield Event(**orjson.loads(line))
