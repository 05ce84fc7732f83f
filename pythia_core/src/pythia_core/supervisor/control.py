"""The supervisor's ear for operators: a socket in a folder of its own, to which the same user may say what to do.

Each request is a JSON object on a line, and so is its answer. Requests are a handful, small and quick, so one thread
serves them between everything else; whoever sends something else, or too much, is cut off.

Invariants: only the user that runs the supervisor, and root, are heard; a connection costs at most 64 KiB and can
neither block nor end the supervisor; where no socket can be made, the fleet runs without one and says so.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import orjson

from pythia_core.supervisor.wire import Mailbox

__all__ = ["Control", "folder"]

CONNECTIONS = 8
LONGEST = 1 << 16  # bytes of a request

Answer = Callable[[dict[str, Any]], dict[str, Any]]
Trouble = Callable[[str], None]


def folder(environ: Mapping[str, str]) -> Path:
    """Return where sockets are: $XDG_RUNTIME_DIR/pythia, or /tmp/pythia-UID where there is none."""
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "pythia"
    return Path("/tmp") / f"pythia-{os.getuid()}"


@attrs.define(eq=False)
class Control:
    """The socket and whoever is connected.

    Args:
        path: where the socket is made, and removed at the end.
        selector: tells when there is something to read; its data are functions without arguments.
        answer: does what a request says, and returns the answer.
    """

    path: Path
    selector: selectors.BaseSelector
    answer: Answer
    _listener: socket.socket | None = attrs.field(default=None, init=False)
    _connections: dict[int, Mailbox] = attrs.field(factory=dict, init=False)

    def open(self) -> None:
        """Listen.

        Raises:
            OSError: if that is not possible, or the folder is somebody else's.
        """
        _make_folder(self.path.parent)
        _remove_stale(self.path.parent)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(str(self.path))
            listener.listen(CONNECTIONS)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(mask)
        self._listener = listener
        self.selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Cut everybody off, and remove the socket."""
        for number in list(self._connections):
            self._drop(number)
        listener, self._listener = self._listener, None
        if listener is not None:
            self.selector.unregister(listener)
            listener.close()
            self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:  # whoever knocked has gone
            return
        if len(self._connections) >= CONNECTIONS or not _may_speak(connection):
            connection.close()
            return
        number = connection.fileno()
        self._connections[number] = Mailbox(connection)
        self.selector.register(connection, selectors.EVENT_READ, partial(self._hear, number))

    def _hear(self, number: int) -> None:
        mailbox = self._connections[number]
        try:
            requests = mailbox.receive(LONGEST)
            for request in requests:
                mailbox.send(self.answer(request))
        except (ValueError, TypeError, KeyError):  # no JSON, no object, or far too much of it
            self._drop(number)
            return
        if mailbox.closed:
            self._drop(number)

    def _drop(self, number: int) -> None:
        mailbox = self._connections.pop(number)
        self.selector.unregister(mailbox.socket)
        mailbox.close()


def _make_folder(path: Path) -> None:
    """Make a folder that nobody else can enter, or see that strangers can put nothing in the place of what is in it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    open_to_all = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.getuid()) or open_to_all:
        raise OSError(f"{path} is somebody else's, or others may write there")


def _remove_stale(path: Path) -> None:
    """Remove the sockets of supervisors that were killed: nobody listens to them."""
    for found in path.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(0.2)
            try:
                connection.connect(str(found))
            except ConnectionRefusedError:
                found.unlink(missing_ok=True)
            except OSError:
                continue


def _may_speak(connection: socket.socket) -> bool:
    """Tell whether the peer is this user or root, as the kernel says; the folder keeps out others where it does not."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return user in (0, os.getuid())


def request(path: Path, message: dict[str, Any], seconds: float = 5.0) -> dict[str, Any]:
    """Say something to a supervisor and return its answer.

    Raises:
        OSError: if it is not there or does not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(orjson.dumps(message) + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise ConnectionError("it closed the connection")
    answer: dict[str, Any] = orjson.loads(line)
    return answer
