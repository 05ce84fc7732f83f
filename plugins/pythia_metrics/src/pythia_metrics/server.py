"""Listens, in a thread and an event loop of its own, and answers GET requests by a table of paths.

It stands apart from ``serving``, which imports Starlette and uvicorn: a process that does not listen loads neither. It
outlives everything: a probe must be answered while strangers hold connections open, while a handler blocks the engine's
event loop, and while a scrape is under way.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from starlette.requests import Request

    from pythia_metrics.serving import Serving

__all__ = ["Answer", "Handler", "Server"]

BACKLOG = 128  # of connections that wait to be accepted; a full one costs whoever comes a second
CLOSE_SECONDS = 2.0

THREAD = "pythia metrics"

log = logging.getLogger("pythia.monitoring")


@attrs.frozen
class Answer:
    """What is answered: a body, its type, and the status, which is the contract.

    Args:
        headers: more of them; those that every answer has are the server's.
    """

    body: str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


Handler = Callable[["Request"], Answer]
"""Answers one request, in the server's event loop, so it must not wait. What it raises is logged and answered by a 500."""


@attrs.define(eq=False)
class Server:
    """Listens and answers.

    Example:
        ::

            server = Server({"/hello/{name}": lambda request: Answer(f"hello {request.path_params['name']}")})
            host, port = server.open("127.0.0.1", 0)

    Args:
        routes: who answers which path, as Starlette writes paths; the first that fits has it.
    """

    routes: Mapping[str, Handler]
    _thread: threading.Thread | None = None
    _serving: Serving | None = None
    _closed: bool = False

    def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return where: port 0 is any that is free.

        Raises:
            OSError: if the address is in use or not ours.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        name = listening.getsockname()
        self._thread = threading.Thread(target=self._serve, args=(listening,), name=THREAD, daemon=True)
        self._thread.start()
        return name[0], name[1]

    def close(self) -> None:
        """Stop to listen and to answer; whoever is connected is cut off."""
        self._closed = True
        if self._serving is not None:
            self._serving.end()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _serve(self, listening: socket.socket) -> None:
        """Import what serves, here, so that a start need not wait for it; who connects meanwhile is in the backlog."""
        with listening:
            try:
                from pythia_metrics.serving import Serving

                self._serving = serving = Serving(self.routes)
                if not self._closed:  # else nobody would tell it to end
                    serving.run(sockets=[listening])
            except BaseException:  # uvicorn leaves by SystemExit
                log.exception("metrics and health are answered no more")
