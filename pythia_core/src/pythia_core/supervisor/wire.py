"""What passes between supervisor and child: JSON objects, one a line, over a socket pair that nobody else has."""

from __future__ import annotations

import socket
from typing import Any

import attrs
import orjson

__all__ = ["Mailbox", "Options", "pack"]

LONGEST = 1 << 20
"""Bytes that a mailbox keeps for a peer that does not read; what would pass it is dropped. A report is a few KiB."""

CHUNK = 1 << 16


@attrs.frozen(kw_only=True)
class Options:
    """What the supervisor tells a child first: what to run, and as what.

    Args:
        target: FILE or MODULE, and perhaps ``:CLASS``.
        config: path of a configuration file.
        overrides: settings of the command line, by name. They stand here and not in the child's arguments, which
            everybody on the machine can read.
        number: the child's, in the supervisor's log.
        slot: see :class:`~pythia_core.Start`.
        processes: how many there are to be, for the check of memory.
        monitored: somebody listens to reports, see :class:`~pythia_core.Telemetry`.
        paused: whether to fetch nothing until told to resume.
        supervisor: process id of the parent, to notice that it has died already.
        who: names its fleet in lines of the log, where several write to one.
    """

    target: str
    config: str | None = None
    overrides: dict[str, Any] = attrs.field(factory=dict, repr=False)
    number: int = 1
    slot: int = 0
    processes: int = 1
    paused: bool = False
    supervisor: int = 0
    monitored: bool = False
    who: str = ""


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as a line."""
    return orjson.dumps(message, default=str) + b"\n"


@attrs.define(eq=False)
class Mailbox:
    """One end. It never blocks: whoever waits does so elsewhere, for ``socket`` to be readable.

    Args:
        socket: made non-blocking.
    """

    socket: socket.socket
    closed: bool = False
    _incoming: bytearray = attrs.field(factory=bytearray, init=False)
    _outgoing: bytearray = attrs.field(factory=bytearray, init=False)

    def __attrs_post_init__(self) -> None:
        self.socket.setblocking(False)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, as far as the peer takes it; the rest goes with the next one or with ``flush``."""
        if len(self._outgoing) < LONGEST:
            self._outgoing += pack(message)
        self.flush()

    def flush(self) -> bool:
        """Send what is left; return whether nothing is."""
        try:
            while self._outgoing:
                del self._outgoing[: self.socket.send(self._outgoing)]
        except BlockingIOError:
            return False
        except OSError:  # the peer has died; nobody will read it
            self._outgoing.clear()
        return True

    def receive(self, longest: int | None = None) -> list[dict[str, Any]]:
        """Return the messages that have come; ``closed`` is True once there will be no more.

        Raises:
            ValueError: if something is no JSON, or longer than so many bytes.
        """
        while not self.closed:
            try:
                data = self.socket.recv(CHUNK)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.closed = not data
            self._incoming += data
            if longest is not None and len(self._incoming) > longest:
                raise ValueError(f"more than {longest} bytes at once")
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        return [orjson.loads(line) for line in lines]

    def close(self) -> None:
        """Close it."""
        self.closed = True
        self.socket.close()
