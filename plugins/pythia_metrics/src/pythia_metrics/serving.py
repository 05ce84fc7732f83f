"""Serves a table of paths by Starlette and uvicorn, with a guard around them, so that no client can hold the server up.

Invariants:

- H1. A request has 2 s to arrive and 5 s to be taken, and 4 KiB; what takes longer is closed.
- H2. There are at most 16 connections. When one more comes, the oldest is closed: it had its time, and a probe that
  comes new always gets in. No answer keeps its connection open, so neither does a page that looks on.
- H3. Only GET and HEAD are answered, one to a connection; an answer that cannot be made is a 500 without details.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Final, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from pythia_metrics.server import BACKLOG, THREAD, Answer, Handler

__all__ = ["Serving", "application"]

MOST = 16
REQUEST_SECONDS = 2.0
ANSWER_SECONDS = 5.0
REQUEST_BYTES = 4096
TRUSTED: Final = ["127.0.0.1", "::1"]
"""Who may say by X-Forwarded-For for whom he asks; given, lest FORWARDED_ALLOW_IPS of the environment says otherwise."""

HEADERS: Final = [
    ("Connection", "close"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]

WORDS: Final[Mapping[int, str]] = {
    404: "not here; see /\n",
    405: "only GET and HEAD: nothing here can be changed\n",
}

log = logging.getLogger("pythia.monitoring")


def application(routes: Mapping[str, Handler]) -> Starlette:
    """Return the ASGI application that answers these paths."""
    return Starlette(
        routes=[Route(path, _endpoint(handler)) for path, handler in routes.items()],
        exception_handlers=dict.fromkeys(WORDS, _refuse),
    )


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            answer = handler(request)
        except Exception:
            log.exception("an answer failed")
            answer = Answer("failed; see the log\n", status=500)
        return Response(answer.body, answer.status, answer.headers, answer.content_type)

    return respond


def _refuse(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return Response(WORDS[status], status, media_type="text/plain")


class Guard(H11Protocol):
    """One connection: uvicorn's, with deadlines, a bound of its request's size, and a place in the order of arrival."""

    numbers = count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the time of the request; the oldest connection has to go if there are too many."""
        others = cast("set[Guard]", self.connections)
        if len(others) >= MOST:
            min(others, key=lambda other: other.number).cut()
        self.number, self.received = next(self.numbers), 0
        self.access_log = False
        super().connection_made(cast("asyncio.Transport", transport))
        self.timer = self.loop.call_later(REQUEST_SECONDS, self.cut)

    @property
    def over(self) -> bool:
        """Whether its one request has arrived, or never will."""
        return cast("object", self.cycle) is not None or self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Read the one request. Whatever comes after it is not, since its answer closes."""
        self.received += len(data)
        if self.received > REQUEST_BYTES:
            self._refuse_length()
            return
        super().data_received(data)
        if self.over:
            self._answered()

    def _refuse_length(self) -> None:
        self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n")
        self.transport.close()
        self._answered()

    def _answered(self) -> None:
        """Begin the time in which the answer has to be taken."""
        self.timer.cancel()
        self.timer = self.loop.call_later(ANSWER_SECONDS, self.cut)

    def cut(self) -> None:
        """Close at once, whatever has not been sent."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End its time."""
        self.timer.cancel()
        super().connection_lost(exc)


class Serving(uvicorn.Server):
    """Serves until told to end, without waking up ten times a second to see whether it was."""

    def __init__(self, routes: Mapping[str, Handler]) -> None:
        config = uvicorn.Config(
            application(routes),
            http=Guard,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            server_header=False,
            date_header=False,
            headers=HEADERS,
            forwarded_allow_ips=TRUSTED,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=2 * REQUEST_BYTES,  # the guard's own bound is met first
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        logging.getLogger("uvicorn.error").addFilter(_of_others)

    def end(self) -> None:
        """End, from another thread."""
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self.on_tick(0)  # has the headers of every answer made
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut everybody off, so that nobody can hold up the end."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            cast("Guard", connection).cut()
        await super().shutdown(sockets)


def _of_others(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn says in our thread of its life and of strangers' requests; a user's own may say it."""
    return record.threadName != THREAD or record.levelno >= logging.ERROR
