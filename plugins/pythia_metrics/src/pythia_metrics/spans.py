"""Makes the spans. Of a message that is not recorded it wants as little as can be: its header, and a throw of the dice.

What keeps that cheap: each worker task stands in a context that says "not recorded" once and for all, which a recorded
message replaces for its time. So spans that the handler itself makes belong to the message's, or are not recorded either,
and an unrecorded message attaches nothing.
"""

# pyright: reportMissingImports=false
# OpenTelemetry is an extra: without it the rest of the plugin works, and can be checked.
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from random import random
from typing import Any, Final

import attrs
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode

from pythia_core import BatchError, Handler, Message, Output, Skip, Surroundings, outgoing
from pythia_metrics.trace_context import PARENT, Parent, dressed, header, read, text, unrecorded

__all__ = ["Spans", "tracer"]

MOST_LINKS = 128  # what OpenTelemetry's SDK keeps of a span's links
ATTEMPT: Final = "pythia.tracing"  # where a message keeps the span of its last attempt that failed

NOBODY = NonRecordingSpan(SpanContext(1, 1, False))
UNRECORDED: Final = trace.set_span_in_context(NOBODY, Context())

_incoming: ContextVar[str | None] = ContextVar("pythia tracing")
"""The ``traceparent`` of the message that this task works on; unset in a task that has worked on none."""

log = logging.getLogger("pythia.monitoring")


def tracer(surroundings: Surroundings, endpoint: bool) -> trace.Tracer:
    """Return the tracer; the first to ask sets up the way to the collector, where nobody else has set up one.

    Args:
        surroundings: whose worker's name the service has, unless ``OTEL_SERVICE_NAME`` is set.
        endpoint: True if the environment names a collector.

    Raises:
        ModuleNotFoundError: if the exporter for it is not installed.
    """
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        if endpoint:
            _export(surroundings.worker)
        else:
            log.warning(
                "tracing: no tracer provider is set and OTEL_EXPORTER_OTLP_ENDPOINT is empty, so traces are handed on "
                "and no span is recorded"
            )
    return trace.get_tracer("pythia")


def _export(service: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from pythia_metrics.otlp import TIMEOUT_SECONDS, resource

    provider = TracerProvider(resource=resource(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=TIMEOUT_SECONDS)))
    trace.set_tracer_provider(provider)


@attrs.define(eq=False)
class Spans:
    """Surrounds one worker's handler.

    Args:
        tracer: makes the spans.
        surroundings: names for them.
        sample: the share of messages without a trace that begin one.
    """

    tracer: trace.Tracer
    surroundings: Surroundings
    sample: float

    def around(self, handler: Handler) -> Handler:
        """Return a handler of messages, or of lists of them."""

        async def traced(message: Any) -> Any:
            if isinstance(message, list):
                return await self._batch(handler, message)
            found = message.headers.get(PARENT)
            parent = None if found is None else read(found)
            _enter(parent)
            if random() < self.sample if parent is None else parent.sampled:
                return await self._one(handler, message, parent)
            result = await handler(message)
            return result if result is None else _handed_on(result, parent)

        return traced

    # -- one message ---------------------------------------------------------------------------------------------

    async def _one(self, handler: Handler, message: Message[Any], parent: Parent | None) -> Any:
        above = None if parent is None else parent.context(message.headers)
        before: SpanContext | None = message.state.get(ATTEMPT)
        span = self.tracer.start_span(
            f"process {self.surroundings.destination}",
            _under(above or before),
            SpanKind.CONSUMER,
            {**self._shared("process"), **_about(message)},
            [Link(before)] if above and before else (),
        )
        result = await self._within(span, handler, message, (message,))
        return result if result is None else _dressed(result, header(span.get_span_context()), parent)

    async def _within(
        self, span: Span, handler: Handler, given: Any, messages: Sequence[Message[Any]]
    ) -> Any:
        """Call a handler within a span, and end the span."""
        token = contexts.attach(trace.set_span_in_context(span, Context()))
        try:
            return await handler(given)
        except Skip:
            raise
        except BaseException as error:
            _failed(span, error)
            failed = error.errors if isinstance(error, BatchError) else range(len(messages))
            for index in failed:
                if index in range(len(messages)):
                    messages[index].state[ATTEMPT] = span.get_span_context()
            raise
        finally:
            contexts.detach(token)
            span.end()

    # -- batches -------------------------------------------------------------------------------------------------

    async def _batch(self, handler: Handler, batch: list[Message[Any]]) -> Any:
        parents = [read(message.headers.get(PARENT)) for message in batch]
        _enter(None)
        recorded = any(parent.sampled for parent in parents if parent)
        if not recorded and None in parents:
            recorded = random() < self.sample
        if not recorded:
            results = await handler(batch)
            return _each(results, [partial(_handed_on, parent=parent) for parent in parents])
        links = [
            Link(parent.context(message.headers))
            for message, parent in zip(batch, parents, strict=True)
            if parent
        ]
        span = self.tracer.start_span(
            f"process {self.surroundings.destination}",
            Context(),
            SpanKind.CONSUMER,
            {**self._shared("process"), "messaging.batch.message_count": len(batch)},
            links[:MOST_LINKS],
        )
        results = await self._within(span, handler, batch, batch)
        context = header(span.get_span_context())
        return _each(results, [partial(_dressed, context=context, parent=parent) for parent in parents])

    # -- dead letters --------------------------------------------------------------------------------------------

    def bury(self, letter: Output, message: Message[Any], error: BaseException) -> Output:
        """Return a dead letter in its message's trace, and make a span of its making; of what is not recorded, as it is."""
        parent = read(message.headers.get(PARENT))
        above = None if parent is None else parent.context(message.headers)
        attempt: SpanContext | None = message.state.get(ATTEMPT)
        under = attempt if attempt and (above is None or above.trace_id == attempt.trace_id) else above
        if under is None or not under.trace_flags.sampled:
            return letter
        name = letter.sink.name if letter.sink is not None else ""
        span = self.tracer.start_span(
            f"create {name}",
            _under(under),
            SpanKind.PRODUCER,
            {
                **self._shared("create"),
                "messaging.destination.name": name,
                "messaging.message.body.size": message.size,
                "error.type": _kind(error),
                "pythia.dead_letter": True,
            },
            [Link(attempt)] if attempt and attempt is not under else (),
        )
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        span.end()
        return dressed(letter, header(span.get_span_context()), text(message.headers.get(PARENT)))

    def _shared(self, operation: str) -> dict[str, Any]:
        about = self.surroundings
        return {
            "messaging.system": about.system,
            "messaging.destination.name": about.destination,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            **({"messaging.consumer.group.name": about.group} if about.group else {}),
        }


def _enter(parent: Parent | None) -> None:
    """Take note of what a task works on; the first time have nothing recorded there, and what is sent carry its trace."""
    if _incoming.get("") == "":
        contexts.attach(UNRECORDED)
        outgoing.set(_sent)
    _incoming.set(None if parent is None else parent.text)


def _sent(output: Output) -> Output:
    """Return what a handler sends in the trace of the span that it is in."""
    incoming = _incoming.get(None)
    context = trace.get_current_span().get_span_context()
    if not context.trace_flags.sampled:  # that of NOBODY, whose identity is nobody's either
        return dressed(output, unrecorded() if incoming is None else [(PARENT, incoming)], incoming)
    return dressed(output, header(context), incoming)


def _under(parent: SpanContext | None) -> Context:
    return Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _about(message: Message[Any]) -> dict[str, Any]:
    return {
        "messaging.message.id": message.id,
        "messaging.message.body.size": message.size,
        "messaging.destination.partition.id": str(message.partition),
        "pythia.message.attempt": message.attempt,
    }


def _failed(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", _kind(error))
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def _kind(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# -- what is returned --------------------------------------------------------------------------------------------


def _handed_on(result: Any, parent: Parent | None) -> Any:
    """Return what an unrecorded message's handler returned, with its trace on each output."""
    return _dressed(result, unrecorded() if parent is None else [(PARENT, parent.text)], parent)


def _dressed(result: Any, context: list[tuple[str, str]], parent: Parent | None) -> list[Output]:
    """Return a result as outputs that carry a trace."""
    many = isinstance(result, list | tuple) and all(isinstance(item, Output) for item in result)
    outputs: Iterable[Output] = (
        result if many else [result if isinstance(result, Output) else Output(None, result)]
    )
    incoming = None if parent is None else parent.text
    return [dressed(output, context, incoming) for output in outputs]


def _each(results: Any, dress: Sequence[Any]) -> Any:
    """Return a batch's results, each dressed; what does not fit the batch is left for the engine to refuse."""
    if not isinstance(results, list | tuple) or len(results) != len(dress):
        return results
    return [result if result is None else made(result) for made, result in zip(dress, results, strict=True)]
