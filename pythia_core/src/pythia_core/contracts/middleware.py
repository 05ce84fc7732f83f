"""Middleware wraps the handler once, at start; what it returns is what runs for every message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from pythia_core.contracts.message import Message
    from pythia_core.contracts.sink import Output

Handler = Callable[[Any], Awaitable[Any]]


class Phase(IntEnum):
    """Where in the chain a middleware stands, outermost first. Within a phase the order is that of configuration."""

    TRACE = 10
    LIMIT = 20
    DEDUPE = 30
    HANDLER = 40


@attrs.frozen
class Admission:
    """How much may come in now.

    Args:
        count: how many messages, at most what was asked for.
        delay: seconds until it is worth asking again, if ``count`` is less than was asked for.
    """

    count: int
    delay: float = 0.0


@attrs.frozen
class Surroundings:
    """What a middleware is told of the worker that it is to be around.

    Args:
        worker: its name.
        system: the kind of its source, as configuration names it: ``kafka``, ``redis``.
        destination: the name of its source.
        group: its consumer group, or "".
    """

    worker: str
    system: str
    destination: str
    group: str


class Middleware:
    """Something around every handler call.

    One that is a :class:`~pythia_core.contracts.resource.Resource` too is opened before messages come, a copy for each
    worker, and closed after the last one.

    Example:
        ::

            class Timing(Middleware):
                phase = Phase.TRACE

                def wrap(self, handler: Handler) -> Handler:
                    async def timed(message):
                        start = time.perf_counter()
                        try:
                            return await handler(message)
                        finally:
                            self.seconds += time.perf_counter() - start

                    return timed
    """

    phase: Phase = Phase.HANDLER

    def attach(self, surroundings: Surroundings) -> None:
        """Take note of whose handler it will be around. Called before :meth:`wrap`."""

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that calls ``handler``. Called once; a ``process_batch`` worker's handler takes the list.

        What the handler raises must pass through: :class:`~pythia_core.errors.Retry`, ``Reject`` and ``Skip`` decide
        about the message.
        """
        return handler

    def admit(self, count: int) -> Admission:
        """Say how many of ``count`` messages may be fetched now. Asked before a fetch, so it must not wait."""
        return Admission(count)

    def bury(self, letter: Output, message: Message[Any], error: BaseException) -> Output:
        """Return a dead letter as it is to be written, such as with one header more. Called for each, at its writing.

        One that raises is logged, and the letter written without it: a dead letter must not be lost.
        """
        return letter
