"""Middleware wraps the handler once, at start; what it returns is what runs for every message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any

import attrs

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

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that calls ``handler``. Called once; a ``process_batch`` worker's handler takes the list.

        What the handler raises must pass through: :class:`~pythia_core.errors.Retry`, ``Reject`` and ``Skip`` decide
        about the message.
        """
        return handler

    def admit(self, count: int) -> Admission:
        """Say how many of ``count`` messages may be fetched now. Asked before a fetch, so it must not wait."""
        return Admission(count)
