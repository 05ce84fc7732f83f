"""Answers GET requests in one thread, from the standard library alone, so that no client can hold it up.

It stands apart because it outlives everything: it runs in the supervisor, and a probe must be answered while strangers
hold connections open, while a handler blocks the event loop, and while a scrape is under way.

Invariants:

- H1. A request has 2 s to arrive and 5 s to be taken, and 4 KiB; what takes longer is closed.
- H2. There are at most 16 connections. When one more comes, the oldest is closed: it had its time, and a probe that
  comes new always gets in.
- H3. Only GET and HEAD are answered, one to a connection; an answer that cannot be made is a 500 without details.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

__all__ = ["Answer", "Server"]

MOST = 16
BACKLOG = 128  # of connections that wait to be accepted; a full one costs whoever comes a second
REQUEST_SECONDS = 2.0
ANSWER_SECONDS = 5.0
REQUEST_BYTES = 4096
CHUNK = 1 << 16

log = logging.getLogger("pythia.monitoring")


@attrs.frozen
class Answer:
    """What is answered: a body, its type, and the status, which is the contract."""

    body: str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Answering = Callable[[str, dict[str, str]], Answer]


@attrs.define(eq=False)
class _Connection:
    socket: socket.socket
    began: float
    incoming: bytearray = attrs.field(factory=bytearray)
    outgoing: bytes = b""
    deadline: float = 0.0


@attrs.define(eq=False)
class Server:
    """Listens and answers.

    Args:
        answer: called in the server's thread with the path and the query's last values.
    """

    answer: Answering
    _listening: socket.socket | None = None
    _connections: dict[int, _Connection] = attrs.field(factory=dict)
    _selector: selectors.BaseSelector = attrs.field(factory=selectors.DefaultSelector)
    _wake: tuple[socket.socket, socket.socket] | None = None
    _thread: threading.Thread | None = None

    def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return where: port 0 is any that is free.

        Raises:
            OSError: if the address is in use or not ours.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        listening.setblocking(False)
        self._listening, self._wake = listening, socket.socketpair()
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="pythia metrics", daemon=True)
        self._thread.start()
        name = listening.getsockname()
        return name[0], name[1]

    def close(self) -> None:
        """Stop to listen and to answer."""
        if self._wake is None or self._thread is None:
            return
        self._wake[1].send(b"\0")
        self._thread.join(2.0)

    # -- in the thread -----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        assert self._listening is not None and self._wake is not None
        with self._listening, self._wake[0], self._wake[1]:
            while self._turn():
                pass
            for connection in list(self._connections.values()):
                self._end(connection)
        self._selector.close()

    def _turn(self) -> bool:
        """Do what is due; return False once it was closed."""
        assert self._wake is not None
        for key, _ in self._selector.select(0.5 if self._connections else None):
            if key.fileobj is self._wake[0]:
                return False
            if key.data is None:
                self._accept()
            else:
                self._go_on(key.data)
        now = time.monotonic()
        for connection in [c for c in self._connections.values() if now > c.deadline]:
            self._end(connection)
        return True

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            accepted, _ = self._listening.accept()
        except OSError:  # it has gone again, or there are no descriptors: the next may get one
            return
        if len(self._connections) >= MOST:
            self._end(min(self._connections.values(), key=lambda connection: connection.began))
        accepted.setblocking(False)
        now = time.monotonic()
        connection = _Connection(accepted, now, deadline=now + REQUEST_SECONDS)
        self._connections[accepted.fileno()] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _go_on(self, connection: _Connection) -> None:
        if connection.socket.fileno() < 0:
            return  # it was closed for a newer one in this turn
        try:
            if not connection.outgoing:
                self._read(connection)
            if connection.outgoing:
                connection.outgoing = connection.outgoing[connection.socket.send(connection.outgoing) :]
                if not connection.outgoing:
                    self._end(connection)
        except BlockingIOError:
            return
        except OSError:  # whoever asked has gone
            self._end(connection)

    def _read(self, connection: _Connection) -> None:
        data = connection.socket.recv(REQUEST_BYTES)
        connection.incoming += data
        if b"\r\n\r\n" in connection.incoming or b"\n\n" in connection.incoming:
            connection.outgoing = self._respond(bytes(connection.incoming))
        elif len(connection.incoming) > REQUEST_BYTES:
            connection.outgoing = _render(Answer("the request is too long\n", status=431), True)
        elif not data:
            self._end(connection)
            return
        if connection.outgoing:
            connection.deadline = time.monotonic() + ANSWER_SECONDS
            self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)

    def _respond(self, request: bytes) -> bytes:
        words = request.split(b"\n", 1)[0].decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _render(Answer("this is no HTTP/1 request\n", status=400), True)
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _render(Answer("only GET and HEAD: nothing here can be changed\n", status=405), True)
        try:
            parts = urlsplit(target)
            answer = self.answer(unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True)))
        except ValueError:
            answer = Answer("this is no path\n", status=400)
        except Exception:
            log.exception("an answer failed")
            answer = Answer("failed; see the log\n", status=500)
        return _render(answer, method == "GET")

    def _end(self, connection: _Connection) -> None:
        number = connection.socket.fileno()
        if number < 0:
            return
        self._selector.unregister(connection.socket)
        self._connections.pop(number, None)
        connection.socket.close()


def _render(answer: Answer, with_body: bool) -> bytes:
    body = answer.body.encode()
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
