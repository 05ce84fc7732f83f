"""Writes down each attempt at a message of a load test, in a file for each process, and reads all of them back.

Messages are known by a header, which goes on with what a stage of a pipeline writes for them. A line's worth of bytes goes out by one write, appended, so that what a process has done survives even its kill. Times are
of the machine's monotonic clock, which all processes on it share.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import attrs

from pythia_core.contracts import Handler, HeaderInput, Message, Middleware, Output, Phase, Sink
from pythia_core.errors import BatchError, Skip

__all__ = ["HEADER", "Attempt", "Recorder", "read_attempts", "sends_handed_on", "tag"]

HEADER = "pythia-load"
_RECORD = struct.Struct("<I?ddd")

_at_work: ContextVar[str] = ContextVar("_at_work", default="")
"""The header of the message that this handler works on."""


@attrs.frozen
class Attempt:
    """One call of a handler for one message; times are monotonic seconds.

    Args:
        number: of the message, in the order of sending.
        good: it did not raise; a Skip is as good as done.
        intended: when the message was to be sent.
        started, ended: when the handler was called and when it was done.
    """

    number: int
    good: bool
    intended: float
    started: float
    ended: float


def tag(run: str, number: int, intended: float) -> str:
    """Return the header's value by which a message is known again."""
    return f"{run} {number} {intended!r}"


class Recorder(Middleware):
    """Notes every attempt at the messages of one run; others pass unseen.

    Args:
        run: of the load test.
        path: the file of this process.
    """

    phase = Phase.TRACE

    def __init__(self, run: str, path: Path) -> None:
        self._run = run
        self._path = path

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that notes what became of each call."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        async def recorded(given: Message[Any] | Sequence[Message[Any]]) -> Any:
            messages = (given,) if isinstance(given, Message) else given
            header = _text(given.headers.get(HEADER)) if isinstance(given, Message) else ""
            _at_work.set(header)
            started = time.monotonic()
            bad: set[int] | range = range(len(messages))
            try:
                result = await handler(given)
                bad = range(0)
            except Skip:
                bad = range(0)
                raise
            except BatchError as error:
                bad = set(error.errors)
                raise
            finally:
                os.write(file, b"".join(self._records(messages, bad, started)))
            return _handed_on(result, header) if header and result is not None else result

        return recorded

    def _records(
        self, messages: Sequence[Message[Any]], bad: set[int] | range, started: float
    ) -> Iterator[bytes]:
        ended = time.monotonic()
        for index, message in enumerate(messages):
            run, _, rest = _text(message.headers.get(HEADER)).partition(" ")
            if run == self._run:
                number, _, intended = rest.partition(" ")
                yield _RECORD.pack(int(number), index not in bad, float(intended), started, ended)


def _handed_on(result: Any, header: str) -> Any:
    """Return what a handler returned with the header on each output."""
    many = isinstance(result, list | tuple) and all(isinstance(item, Output) for item in result)
    outputs = result if many else [result if isinstance(result, Output) else Output(None, result)]
    return [output.with_header(HEADER, header) for output in outputs]


@contextmanager
def sends_handed_on() -> Iterator[None]:
    """Have what handlers send themselves, by ``await self.sink.send(...)``, carry the header too.

    Every sink's ``send`` is the contract's own, so it is exchanged there, for the length of a load test.
    """
    send = Sink.send

    async def sending(
        sink: Sink,
        value: Any,
        *,
        key: str | bytes | None = None,
        headers: HeaderInput | None = None,
        delay: float | None = None,
    ) -> None:
        if header := _at_work.get():
            headers = Output(sink, value, headers=headers).with_header(HEADER, header).headers
        await send(sink, value, key=key, headers=headers, delay=delay)

    setattr(Sink, "send", sending)  # noqa: B010 - a type checker rightly minds that a method is exchanged
    try:
        yield
    finally:
        setattr(Sink, "send", send)  # noqa: B010


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def read_attempts(path: Path, start: int = 0) -> list[Attempt]:
    """Return what a file has, but for its first ``start`` attempts; one that is being written counts as not there."""
    with path.open("rb") as file:
        file.seek(start * _RECORD.size)
        data = file.read()
    whole = len(data) - len(data) % _RECORD.size
    return [Attempt(*fields) for fields in _RECORD.iter_unpack(data[:whole])]
