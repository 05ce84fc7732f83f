"""Sends lines of text as messages, in batches, and keeps account of every line.

It stands apart from ``pythia send``, which reads options and prints; this only reads lines and writes to a sink.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

import anyio
import anyio.lowlevel
import attrs
import orjson

from pythia_core.contracts import Output, Sink

__all__ = ["Fault", "Line", "LineReader", "Lines", "Report", "send_lines"]

CHUNK = 1 << 18  # bytes of one read: about 500 lines of 500 bytes
NO_OUTCOME = "the outcome is unknown"


@attrs.frozen
class Line:
    """One line: its number, from 1, and its bytes without the line end."""

    number: int
    raw: bytes


@attrs.frozen
class Fault:
    """Why the lines ``first`` to ``last`` were not confirmed."""

    first: int
    last: int
    why: str

    def __str__(self) -> str:
        return f"line {self.first}: {self.why}" if self.first == self.last else self._several()

    def _several(self) -> str:
        return f"lines {self.first} to {self.last}: {self.why}"


@attrs.define
class Report:
    """What became of the lines.

    Args:
        sent: confirmed.
        failed: not confirmed.
        not_json: of those sent, no JSON: a worker with the default codec will dead-letter them.
        faults: why, neighbours with one reason together.
        stopped_after: the last line read, if sending stopped before the end.
    """

    sent: int = 0
    failed: int = 0
    not_json: int = 0
    faults: list[Fault] = attrs.field(factory=list)
    stopped_after: int | None = None

    def fail(self, line: int, why: str) -> None:
        """Count a line that was not confirmed."""
        self.failed += 1
        last = self.faults[-1] if self.faults else None
        if last is not None and last.why == why and last.last == line - 1:
            self.faults[-1] = attrs.evolve(last, last=line)
        else:
            self.faults.append(Fault(line, line, why))


class Lines(Protocol):
    """Where lines come from."""

    async def read(self) -> Sequence[Line]:
        """Return the lines that are there, waiting for the first; none at the end."""
        ...


class LineReader:
    """Reads lines from a binary stream, as they come: what is piped slowly is sent at once.

    Args:
        stream: standard input.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.consumed = 0  # bytes
        self._stream = stream
        self._rest = b""
        self._number = 0
        self._descriptor = _descriptor(stream)
        self._waits = self._descriptor is not None and _may_wait(self._descriptor)

    @property
    def size(self) -> int | None:
        """How many bytes there are in all, or None if it cannot be known."""
        if self._descriptor is None or not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return None
        return os.fstat(self._descriptor).st_size

    async def read(self) -> Sequence[Line]:
        """Return the lines that are there, waiting for the first; none at the end. Empty ones are left out."""
        while chunk := await self._read_chunk():
            self.consumed += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            if lines := list(self._numbered(whole)):
                return lines
        rest, self._rest = self._rest, b""
        return list(self._numbered([rest])) if rest else []

    async def _read_chunk(self) -> bytes:
        if self._descriptor is None:
            await anyio.lowlevel.checkpoint()
            return self._stream.read(CHUNK)
        if self._waits:
            await anyio.wait_readable(self._descriptor)
        return os.read(self._descriptor, CHUNK)

    def _numbered(self, raws: Sequence[bytes]) -> Iterator[Line]:
        for raw in raws:
            self._number += 1
            if raw := raw.removesuffix(b"\r"):
                yield Line(self._number, raw)


def _descriptor(stream: IO[bytes]) -> int | None:
    try:
        return stream.fileno()
    except OSError:
        return None


def _may_wait(descriptor: int) -> bool:
    """Tell whether reading may wait: a file never does, and an event loop cannot watch one."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


async def send_lines(
    sink: Sink,
    lines: Lines,
    *,
    key_field: str | None = None,
    headers: Mapping[str, str] | None = None,
    batch: int = 500,
    watch: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Send every line and return what became of each.

    A write that raises ends the sending, since its lines may or may not have arrived and the next would fare no better.

    Args:
        sink: an open sink.
        lines: where they come from.
        key_field: the field of each line's JSON that is its key; ``a.b`` is ``b`` within ``a``.
        headers: of every message.
        batch: most lines of one write.
        watch: called after each write.
    """
    report = Report()
    while found := await lines.read():
        for start in range(0, len(found), batch):
            part = found[start : start + batch]
            if not await _send(sink, part, key_field, headers, report):
                report.stopped_after = part[-1].number
                return report
            watch(report)
    return report


async def _send(
    sink: Sink,
    lines: Sequence[Line],
    key_field: str | None,
    headers: Mapping[str, str] | None,
    report: Report,
) -> bool:
    """Send some lines in one write; return whether it is worth going on."""
    outputs, numbers = [], []
    for line in lines:
        try:
            key = _key(line.raw, key_field, report)
        except _NoKey as error:
            report.fail(line.number, str(error))
        else:
            outputs.append(Output(sink, line.raw, key=key, headers=headers))
            numbers.append(line.number)
    if not outputs:
        return True
    try:
        result = await sink.write(outputs)
    except Exception as error:
        for number in numbers:
            report.fail(number, f"{NO_OUTCOME}: {type(error).__name__}: {error}")
        return False
    for index, number in enumerate(numbers):
        if refusal := result.error(index):
            report.fail(number, str(refusal))
        else:
            report.sent += 1
    return True


class _NoKey(Exception):
    """A line has no key to be found where it has to be."""


def _key(raw: bytes, field: str | None, report: Report) -> str | None:
    """Return a line's key.

    Raises:
        _NoKey: if there has to be one and is not.
    """
    try:
        body: Any = orjson.loads(raw)
    except (orjson.JSONDecodeError, RecursionError):
        if field is not None:
            raise _NoKey("not JSON, so it has no field to take as the key") from None
        report.not_json += 1
        return None
    return None if field is None else _field(body, field)


def _field(body: Any, path: str) -> str:
    for name in path.split("."):
        if not isinstance(body, Mapping) or name not in body:
            raise _NoKey(f"has no field {path!r} to take as its key")
        body = body[name]
    if isinstance(body, bool) or not isinstance(body, str | int):
        raise _NoKey(f"field {path!r} is neither text nor a whole number, so it is no key")
    return str(body)
