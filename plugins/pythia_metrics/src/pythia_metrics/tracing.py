"""Traces: what a user configures. OpenTelemetry is imported when the first worker with it begins, and else never.

It stands apart from ``spans``, which makes the spans, because a configuration can be read and checked without the extra.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

import attrs

from pythia_core import ConfigError, Handler, Middleware, Output, Phase, Resource, Surroundings

if TYPE_CHECKING:
    from pythia_core import Message
    from pythia_metrics.spans import Spans

__all__ = ["Tracing"]

FLUSH_SECONDS = 2.0
"""What is given to spans that are still to be sent at the end; a worker's resources have 3 s to close."""

INSTALL: Final = "pip install './plugins/pythia_metrics[otlp]'"

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

log = logging.getLogger("pythia.monitoring")


@attrs.define(eq=False, slots=False)  # so that it can be copied before it is opened
class Tracing(Middleware, Resource):
    """Make an OpenTelemetry span of some messages' processing, and hand their trace on to what is written for them.

    A message whose header ``traceparent`` (W3C Trace Context) belongs to a trace is recorded if that trace is, so that
    traces are whole; of the others one in ``1 / sample`` begins a trace of its own. What the handler returns or sends, and
    a dead letter, carries the context on, also where nothing is recorded. A batch is one span, linked to each message's.

    Spans go to the tracer provider that you have set; if there is none and ``OTEL_EXPORTER_OTLP_ENDPOINT`` is in the
    environment, to that collector, by the extra ``otlp``.

    Args:
        sample: the share of messages without a trace that begin one, 0 to 1.

    Raises:
        ConfigError: if ``sample`` is out of bounds, or OpenTelemetry is not installed when a worker begins.

    Example:
        ::

            config = WorkerConfig(middleware=[Tracing(sample=0.01)])
    """

    sample: float = 0.01
    _surroundings: Surroundings = attrs.field(default=Surroundings("worker", "", "", ""), init=False)
    _spans: Spans | None = attrs.field(default=None, init=False)

    phase = Phase.TRACE

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.sample <= 1:
            raise ConfigError(f"sample is {self.sample}; it must be a share from 0 to 1, such as 0.01")

    def attach(self, surroundings: Surroundings) -> None:
        """Take note of the names that spans are given."""
        self._surroundings = surroundings

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler around which some messages are recorded."""
        try:
            from pythia_metrics.spans import Spans, tracer
        except ModuleNotFoundError as error:
            raise ConfigError(f"tracing needs {error.name}, which is not installed: {INSTALL}") from error
        endpoint = any(os.environ.get(name) for name in ENDPOINTS)
        self._spans = Spans(tracer(self._surroundings, endpoint), self._surroundings, self.sample)
        return self._spans.around(handler)

    def bury(self, letter: Output, message: Message[Any], error: BaseException) -> Output:
        """Return a dead letter that belongs to the trace of what it died of."""
        return letter if self._spans is None else self._spans.bury(letter, message, error)

    async def aclose(self) -> None:
        """Have the last spans sent, for 2 s at most."""
        if self._spans is None:
            return
        import anyio.to_thread  # not above: `pythia health` imports this package every few seconds

        with anyio.move_on_after(FLUSH_SECONDS):
            await anyio.to_thread.run_sync(self._flush, abandon_on_cancel=True)

    def _flush(self) -> None:
        from opentelemetry import trace

        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(int(FLUSH_SECONDS * 1000))
